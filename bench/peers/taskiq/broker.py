"""The broker and the task that the worker and the caller of taskiq share. Runs in the peers' own environment."""

from __future__ import annotations

import os
from typing import Any

from taskiq_redis import RedisAsyncResultBackend, RedisStreamBroker

from bench.peers.work import COMMAND_TYPE


async def read(path: str, lines: int, follow: bool) -> dict[str, Any]:
    """Run the command, which does nothing."""
    return {"status": "completed", "exitCode": 0}


def broker() -> Any:
    """Return a broker on the Valkey that the environment names."""
    url = os.environ["PEER_VALKEY_URL"]
    results: Any = RedisAsyncResultBackend(url)
    # From the start of the stream, so that no command is queued too early to be seen.
    return RedisStreamBroker(url, consumer_id="0").with_result_backend(results)


def task(of: Any) -> Any:
    """Register the task at a broker and return it."""
    return of.register_task(read, task_name=COMMAND_TYPE)
