"""The caller of JetStream. Takes the server's address. Runs in the peers' own environment."""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
from typing import Any

import nats

from bench.event_loop import loop_factory
from bench.peers.caller import serve_turns
from bench.peers.jetstream import subjects
from bench.peers.results import Results
from bench.peers.work import COMMAND_TYPE, PARAMS


async def run(url: str) -> None:
    """Publish commands and read the stream of results."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream(publish_async_max_pending=subjects.MAX_UNACKNOWLEDGED)
    results = Results()
    numbers = itertools.count()

    async def note(message: Any) -> None:
        results.add(json.loads(message.data)["id"])

    async def queue(count: int) -> list[str]:
        ids = [str(next(numbers)) for _ in range(count)]
        stored = []
        for command_id in ids:
            command = json.dumps({"id": command_id, "type": COMMAND_TYPE, "params": PARAMS}).encode()
            stored.append(await jetstream.publish_async(subjects.COMMAND_SUBJECT, command))
        await asyncio.gather(*stored)
        return ids

    await jetstream.subscribe(subjects.RESULT_SUBJECT, stream=subjects.RESULTS, ordered_consumer=True, cb=note)
    await serve_turns(queue, results)
    await connection.close()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(sys.argv[1]))
