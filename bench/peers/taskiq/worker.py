"""The worker of taskiq: prints "ready"; ends by SIGTERM. Runs in the peers' own environment.

One process, which does what the command `taskiq worker` does in each of its processes. It acknowledges a command once
the result is stored.
"""

from __future__ import annotations

import asyncio

from taskiq.acks import AcknowledgeType
from taskiq.api import run_receiver_task

from bench.event_loop import loop_factory
from bench.peers.taskiq.broker import broker, task


async def run() -> None:
    """Work for ever."""
    own = broker()
    task(own)
    own.is_worker_process = True
    await own.startup()
    print("ready", flush=True)
    await run_receiver_task(own, ack_time=AcknowledgeType.WHEN_SAVED)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
