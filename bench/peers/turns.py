"""Lets contenders work in turns, so that all of them meet the same machine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bench.findings import percentile
from bench.peers.contender import Contender
from bench.peers.work import Shape, Times, Work
from bench.proc_files import CpuMeter

WARM_UP_SHARE = 5
COMMANDS_PER_SECOND = "commands/s"
P50_MS = "p50 ms"
P99_MS = "p99 ms"
CPU_BY_OTHERS = "% of CPU by others"


@dataclass(frozen=True)
class Turn:
    """What one contender did in one round."""

    contender: str
    shape: Shape
    round: int
    figures: dict[str, float]
    """Speed by the names above; the CPU of a process, in microseconds per command, by its role."""


async def take_turns(contenders: Sequence[Contender], work: Sequence[Work], rounds: int) -> list[Turn]:
    """Measure all contenders in each round, shape by shape. Raises BenchFailed."""
    turns = []
    for one in work:
        for contender in contenders:
            await contender.take_turn(_warm_up(one))
        for number in range(rounds):
            for contender in order(contenders, number):
                turns.append(await _measured(contender, one, number))
    return turns


def order(contenders: Sequence[Contender], round_number: int) -> Sequence[Contender]:
    """Rotate the contenders, so that none always follows the same other."""
    first = round_number % len(contenders)
    return [*contenders[first:], *contenders[:first]]


def _warm_up(work: Work) -> Work:
    calls = max(1, work.commands // work.batch // WARM_UP_SHARE)
    return Work(work.shape, calls * work.batch, work.batch, work.calls, work.outstanding)


async def _measured(contender: Contender, work: Work, round_number: int) -> Turn:
    cpu = CpuMeter(contender.pids)
    times = await contender.take_turn(work)
    # First, as reporting takes CPU too.
    used, by_others = cpu.microseconds_per(work.commands), cpu.percent_by_others()
    figures = {**_speed(work, times), **used, CPU_BY_OTHERS: by_others}
    return Turn(contender.name, work.shape, round_number, figures)


def _speed(work: Work, times: Times) -> dict[str, float]:
    if work.shape is not Shape.IDLE:
        return {COMMANDS_PER_SECOND: work.commands / times.seconds}
    latencies = sorted(times.latencies_ms)
    return {P50_MS: percentile(latencies, 50), P99_MS: percentile(latencies, 99)}
