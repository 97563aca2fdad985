"""The caller of a Python peer: reads turns of work from stdin, prints the times of each. Standard library only."""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from dataclasses import replace
from typing import Protocol

from bench.peers.results import Results
from bench.peers.work import Shape, Times, Work


class Queue(Protocol):
    """Queues commands."""

    async def __call__(self, count: int) -> list[str]:
        """Queue `count` commands, durably, and return their ids."""


class Endings(Protocol):
    """The results that have arrived in this turn."""

    async def count_reaches(self, count: int) -> None:
        """Wait until `count` commands have a result."""

    async def of(self, command_id: str) -> float:
        """Wait for the result of a command; return its arrival, as `time.perf_counter()`."""


async def serve_turns(queue: Queue, results: Results, most_outstanding: int | None = None) -> None:
    """Print "ready", then do each turn that a line of stdin describes, until its end.

    `most_outstanding` bounds the unfinished commands, where fewer are faster than the turn permits.
    """
    print("ready", flush=True)
    # asyncio cannot wait for a file descriptor on every platform; turns are rare.
    while line := await asyncio.to_thread(sys.stdin.readline):
        work = Work.load(line)
        if most_outstanding is not None:
            work = replace(work, outstanding=min(work.outstanding, most_outstanding))
        results.clear()
        print((await take_turn(work, queue, results)).dump(), flush=True)


async def take_turn(work: Work, queue: Queue, endings: Endings) -> Times:
    """Queue the commands and wait for all results."""
    # A garbage collection would count as latency.
    gc.collect()
    gc.freeze()
    if work.shape is Shape.IDLE:
        latencies = [await _latency_ms(work, queue, endings) for _ in range(work.commands)]
        return Times(sum(latencies) / 1000, latencies)
    begun = time.perf_counter()
    await _queue_all(work, queue, endings)
    return Times(time.perf_counter() - begun)


async def _latency_ms(work: Work, queue: Queue, endings: Endings) -> float:
    begun = time.perf_counter()
    (command_id,) = await queue(1)
    latency = (await endings.of(command_id) - begun) * 1000
    await asyncio.sleep(work.pause_seconds)
    return latency


async def _queue_all(work: Work, queue: Queue, endings: Endings) -> None:
    calls = iter(range(work.commands // work.batch))
    asked = 0

    async def caller() -> None:
        nonlocal asked
        for _ in calls:
            asked += work.batch
            await endings.count_reaches(asked - work.outstanding)
            await queue(work.batch)

    async with asyncio.TaskGroup() as group:
        for _ in range(work.calls):
            group.create_task(caller())
    await endings.count_reaches(asked)
