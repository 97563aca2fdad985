"""The worker of JetStream. Takes the server's address; prints "ready"; ends by SIGTERM.

It acknowledges a command once the result is stored. Runs in the peers' own environment.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import nats
from nats.js.api import ConsumerConfig, RetentionPolicy, StorageType, StreamConfig

from bench.event_loop import loop_factory
from bench.peers.jetstream import subjects


async def run(url: str) -> None:
    """Create both streams and work for ever."""
    connection = await nats.connect(url)
    jetstream = connection.jetstream(publish_async_max_pending=subjects.MAX_UNACKNOWLEDGED)
    await jetstream.add_stream(
        StreamConfig(
            name=subjects.COMMANDS,
            subjects=[subjects.COMMAND_SUBJECT],
            retention=RetentionPolicy.WORK_QUEUE,
            storage=StorageType.FILE,
        )
    )
    await jetstream.add_stream(
        StreamConfig(name=subjects.RESULTS, subjects=[subjects.RESULT_SUBJECT], storage=StorageType.FILE)
    )
    published: asyncio.Queue[tuple[Any, Any]] = asyncio.Queue()

    async def execute(message: Any) -> None:
        command = json.loads(message.data)
        result = json.dumps({"id": command["id"], "status": "completed", "exitCode": 0}).encode()
        published.put_nowait((await jetstream.publish_async(subjects.RESULT_SUBJECT, result), message))

    await jetstream.subscribe(
        subjects.COMMAND_SUBJECT,
        stream=subjects.COMMANDS,
        durable="worker",
        cb=execute,
        manual_ack=True,
        config=ConsumerConfig(max_ack_pending=subjects.MAX_UNACKNOWLEDGED),
    )
    print("ready", flush=True)
    while True:
        stored, message = await published.get()
        await stored
        await message.ack()


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(sys.argv[1]))
