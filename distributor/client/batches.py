"""How many commands travel in one call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from distributor.v1.command_service_pb2 import QueueCommandRequest

MAX_COMMANDS: Final = 1_000
"""Commands in one QueueCommands call, by protocol."""

MAX_BYTES: Final = 6 * 1024 * 1024
"""Keeps a call below the 8 MiB that a message may have, with room for framing."""


def batches(
    requests: Sequence[QueueCommandRequest], max_commands: int = MAX_COMMANDS, max_bytes: int = MAX_BYTES
) -> Iterator[Sequence[QueueCommandRequest]]:
    """`requests` in order, cut so that no part exceeds either bound. One too large by itself goes alone."""
    start, size = 0, 0
    for index, request in enumerate(requests):
        request_size = request.ByteSize()
        if index > start and (index - start == max_commands or size + request_size > max_bytes):
            yield requests[start:index]
            start, size = index, 0
        size += request_size
    if start < len(requests):
        yield requests[start:]
