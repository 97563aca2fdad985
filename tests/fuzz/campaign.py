"""Runs all targets at once: sound load and faults in turn, so that what others feel of the two can be compared."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Final

import grpc

from distributor.tasks import stop_tasks
from distributor.wire.transport import channel_options
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.fuzz.target import Fault, Target
from tests.fuzz.targets.agent_stream import AgentStreams
from tests.fuzz.targets.command_lines import command_lines
from tests.fuzz.targets.dashboards import Dashboards
from tests.fuzz.targets.params import Params
from tests.fuzz.targets.unary_calls import UnaryCalls
from tests.fuzz.watch import Watch
from tests.fuzz.world import World, world

SOUND_SECONDS: Final = 3.0
FUZZED_SECONDS: Final = 9.0
PAUSE_SECONDS: Final = 0.02
"""Between the attempts of a worker: the load must leave room to see whether others are disturbed."""
MOST_FAULTS: Final = 20
MOST_SHOWN: Final = 2_000


@dataclass
class Findings:
    """What a run found: the number of attempts by target, complaints, and figures."""

    attempts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    figures: list[str] = field(default_factory=list)


async def campaign(seed: int, seconds: float, only: str, folder: Path) -> Findings:
    """Fuzz for so many seconds, in targets whose name contains `only`."""
    findings = Findings()
    async with world(folder) as made, targets(made, folder) as all_targets:
        chosen = [target for target in all_targets if only in target.name]
        watch = Watch(made)
        watching = asyncio.create_task(watch.run())
        workers = [
            Worker(target, Random(f"{seed}:{target.name}:{number}"), findings)
            for target in chosen
            for number in range(target.workers)
        ]
        ends = time.monotonic() + seconds
        for sound in itertools.cycle((True, False)):
            left = ends - time.monotonic()
            if left <= 0 or watching.done() or len(findings.complaints) >= MOST_FAULTS:
                break
            with watch.slice(sound):
                length = min(left, SOUND_SECONDS if sound else FUZZED_SECONDS)
                await asyncio.gather(*(worker.run(sound, length) for worker in workers))
        await stop_tasks([watching])
        findings.figures = watch.figures()
        findings.complaints += await watch.complaints()
    return findings


class Worker:
    """Makes attempts on one target, one after the other."""

    def __init__(self, target: Target, rng: Random, findings: Findings) -> None:
        self._target = target
        self._rng = rng
        self._findings = findings

    async def run(self, sound: bool, seconds: float) -> None:
        """Make attempts for so many seconds. The last may take longer."""
        ends = time.monotonic() + seconds
        while time.monotonic() < ends and len(self._findings.complaints) < MOST_FAULTS:
            try:
                await self._target.attempt(self._rng, sound)
            except Fault as fault:
                self._findings.complaints.append(f"{_shortened(str(fault))}\n    sent {_shortened(repr(fault.case))}")
            except TimeoutError:
                self._findings.complaints.append(f"{self._target.name}: no answer in time")
            self._findings.attempts[f"{self._target.name}, {'sound' if sound else 'odd'}"] += 1
            await asyncio.sleep(PAUSE_SECONDS)


def _shortened(text: str) -> str:
    """Keep both ends: a traceback tells the most in its last lines."""
    if len(text) <= MOST_SHOWN:
        return text
    return f"{text[: MOST_SHOWN // 2]} … {text[-MOST_SHOWN // 2 :]}"


@asynccontextmanager
async def targets(made: World, folder: Path) -> AsyncIterator[Sequence[Target]]:
    """All targets of a world."""
    vocabulary = Vocabulary()
    async with AsyncExitStack() as stack:
        channel = await stack.enter_async_context(
            grpc.aio.insecure_channel(made.grpc_address, options=channel_options(made.grpc_address))
        )
        programs = folder / "programs"
        programs.mkdir()
        caller, narrow = ((("authorization", f"Bearer {token}"),) for token in (made.token, made.narrow_token))
        yield (
            UnaryCalls(channel, vocabulary, caller, narrow),
            Params(channel, caller),
            AgentStreams(made.grpc_address, vocabulary, made.agent_token),
            Dashboards(made.bridge_address, made.narrow_token, vocabulary),
            await stack.enter_async_context(command_lines(programs, made.grpc_address)),
        )
