"""The caller of taskiq. Runs in the peers' own environment.

taskiq has no call for several commands and no notice of a result: callers queue one by one, and poll.
"""

from __future__ import annotations

import asyncio
from typing import Any

from bench.event_loop import loop_factory
from bench.peers.caller import serve_turns
from bench.peers.results import Results
from bench.peers.taskiq.broker import broker, task
from bench.peers.work import PARAMS

CHECK_SECONDS = 0.001
"""Pause between two polls of the only unfinished command."""
CHECK_SECONDS_PER_COMMAND = 0.0002
"""Added for each further unfinished command, so that polls do not take the time of the work."""
MOST_OUTSTANDING = 200
"""Of 100, 200 and 800, the one that takes the least CPU per command."""


async def run() -> None:
    """Queue commands and poll for their results."""
    own = broker()
    read = task(own)
    await own.startup()
    results = Results()
    polling: set[asyncio.Task[None]] = set()

    async def poll(queued: Any) -> None:
        interval = CHECK_SECONDS + CHECK_SECONDS_PER_COMMAND * (len(polling) - 1)
        result = await queued.wait_result(check_interval=interval)
        result.raise_for_error()
        results.add(queued.task_id)

    async def queue_one() -> str:
        queued = await read.kiq(**PARAMS)
        waiting = asyncio.create_task(poll(queued))
        polling.add(waiting)
        waiting.add_done_callback(polling.discard)
        return str(queued.task_id)

    async def queue(count: int) -> list[str]:
        return await asyncio.gather(*(queue_one() for _ in range(count)))

    await serve_turns(queue, results, MOST_OUTSTANDING)
    await own.shutdown()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
