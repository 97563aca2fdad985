"""Plays scenarios against an agent and scores them."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

from grpc import aio

from distributor.conformance.agent_sessions import Skipped
from distributor.conformance.launched_agent import LaunchedAgent, found
from distributor.conformance.scenario import Scenario
from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.conformance.trial import Trial
from distributor.conformance.unmet import Unmet

SCENARIO_PATIENCES: Final = 6
"""Limit of a scenario, as a multiple of the patience of its single waits."""


class Verdict(StrEnum):
    """How an agent did in a scenario."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


class Score(NamedTuple):
    """How an agent did in a scenario, what was expected, and what came."""

    scenario: Scenario
    verdict: Verdict
    expected: str
    came: str
    seconds: float


@dataclass(frozen=True, slots=True)
class KitOptions:
    """How to play. Without a `program`, the tester starts one agent, which plays all scenarios in turn."""

    host: str = "127.0.0.1"
    port: int = 0
    """0 gives each scenario a port of its own."""
    program: Sequence[str] = ()
    """Command line of the agent, which is then started for each scenario."""
    patience: float = 10.0
    """Limit of each wait for the agent, in seconds."""
    jobs: int = 4
    """Number of scenarios played at once; 1 if they share a port."""


async def run_scenarios(
    scenarios: Sequence[Scenario], options: KitOptions, on_score: Callable[[Score], None]
) -> list[Score]:
    """Play the scenarios and score each; `on_score` is called as they end. Returns the scores in order of scenarios.

    Raises ConfigurationError if the agent's program does not exist.
    """
    if not options.program:
        async with _gateway(options) as served:
            return [await _scored(one, options, served, on_score) for one in scenarios]
    found(options.program[0])
    jobs = asyncio.Semaphore(1 if options.port else options.jobs)

    async def play(one: Scenario) -> Score:
        async with jobs, _gateway(options) as served:
            return await _scored(one, options, served, on_score)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(play(one)) for one in scenarios]
    return [task.result() for task in tasks]


async def _scored(
    one: Scenario, options: KitOptions, served: ScriptedGateway, on_score: Callable[[Score], None]
) -> Score:
    began = asyncio.get_running_loop().time()
    verdict, expected, came = await _played(one, options, served)
    score = Score(one, verdict, expected or one.expected, came, asyncio.get_running_loop().time() - began)
    on_score(score)
    return score


async def _played(one: Scenario, options: KitOptions, served: ScriptedGateway) -> tuple[Verdict, str, str]:
    if one.needs and not options.program:
        return Verdict.SKIPPED, "", one.needs
    try:
        async with _trial(options, served) as trial, asyncio.timeout(SCENARIO_PATIENCES * options.patience):
            await one.play(trial)
            trial.check()
    except Skipped as reason:
        return Verdict.SKIPPED, "", str(reason)
    except Unmet as unmet:
        return Verdict.FAILED, unmet.expected, unmet.came
    except TimeoutError:
        return Verdict.FAILED, "", "the scenario took too long"
    except (aio.BaseError, asyncio.InvalidStateError):
        return Verdict.FAILED, "", "the agent ended the stream"
    return Verdict.PASSED, "", "as expected"


@asynccontextmanager
async def _gateway(options: KitOptions) -> AsyncIterator[ScriptedGateway]:
    served = ScriptedGateway(options.port, options.host, options.patience)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


@asynccontextmanager
async def _trial(options: KitOptions, served: ScriptedGateway) -> AsyncIterator[Trial]:
    with tempfile.TemporaryDirectory(prefix="conformance-") as name:
        folder = Path(name)
        if not options.program:
            trial = Trial(served, None, folder)
            try:
                yield trial
            finally:
                await trial.close()
            return
        agent = LaunchedAgent(options.program, served.address, folder)
        agent.start()
        try:
            yield Trial(served, agent, folder)
        finally:
            await agent.kill()
