"""Queues one command at a time and measures each, from QueueCommand to its completion on the watcher's stream."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Sequence

import grpc

from bench.load import CompletionWatch, queue_request
from distributor.v1.command_service_pb2_grpc import CommandServiceStub

PAUSE_SECONDS = 0.005
"""Pause after each command, so that commands do not overlap."""


async def latencies(
    channel: grpc.aio.Channel, endings: CompletionWatch, agent_ids: Sequence[str], samples: int
) -> list[float]:
    """Return the milliseconds of each command, in order. The agents get commands in turn."""
    stub = CommandServiceStub(channel)
    # A garbage collection here would count as latency.
    gc.collect()
    gc.freeze()
    measured = []
    for number in range(samples):
        request = queue_request(agent_ids[number % len(agent_ids)])
        begun = time.perf_counter()
        response = await stub.QueueCommand(request)
        measured.append((await endings.of(response.command.command_id) - begun) * 1000)
        await asyncio.sleep(PAUSE_SECONDS)
    return measured
