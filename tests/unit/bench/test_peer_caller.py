"""The turns of a caller, with results that the test sets free."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from bench.peers.caller import take_turn
from bench.peers.results import Results
from bench.peers.work import Shape, Times, Work

BATCHES = Work(Shape.BATCHED, commands=60, batch=10, calls=3, outstanding=20)


class Commands:
    """Queues commands; results arrive at once, or when `finish` is called."""

    def __init__(self, at_once: bool = True) -> None:
        self.results = Results()
        self.calls: list[int] = []
        self.unfinished: list[str] = []
        self._at_once = at_once
        self._numbers = itertools.count()

    async def queue(self, count: int) -> list[str]:
        """Queue and return new ids."""
        self.calls.append(count)
        ids = [str(next(self._numbers)) for _ in range(count)]
        self.unfinished += ids
        if self._at_once:
            self.finish()
        await asyncio.sleep(0)
        return ids

    def finish(self) -> None:
        """Let the results of all queued commands arrive."""
        ready, self.unfinished = self.unfinished, []
        for command_id in ready:
            self.results.add(command_id)


async def test_batches_make_up_the_work() -> None:
    commands = Commands()
    times = await take_turn(BATCHES, commands.queue, commands.results)
    assert commands.calls == [10] * 6
    assert times.seconds > 0
    assert times.latencies_ms == []


async def test_no_more_than_the_bound_is_unfinished_and_the_last_result_ends_the_turn() -> None:
    commands = Commands(at_once=False)
    turn = asyncio.create_task(take_turn(BATCHES, commands.queue, commands.results))
    for _ in range(3):
        await until_idle()
        assert len(commands.unfinished) == 20
        assert not turn.done()
        commands.finish()
    await turn
    assert sum(commands.calls) == 60


async def test_one_at_a_time_each_latency_is_measured() -> None:
    commands = Commands()
    times = await take_turn(Work(Shape.IDLE, 5), commands.queue, commands.results)
    assert commands.calls == [1] * 5
    assert len(times.latencies_ms) == 5
    assert times.seconds == pytest.approx(sum(times.latencies_ms) / 1000)


@pytest.mark.parametrize("value", [BATCHES, Work(Shape.IDLE, 5, pause_seconds=0.5)])
def test_work_survives_its_line(value: Work) -> None:
    assert "\n" not in value.dump()
    assert Work.load(value.dump()) == value


def test_times_survive_their_line() -> None:
    times = Times(1.5, [0.25, 0.5])
    assert Times.load(times.dump()) == times


async def until_idle() -> None:
    """Let all that is ready run."""
    for _ in range(50):
        await asyncio.sleep(0)
