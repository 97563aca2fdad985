"""How commands are split over calls."""

from __future__ import annotations

import pytest
from google.protobuf.struct_pb2 import Struct

from distributor.client.translation import MAX_BATCH_BYTES, batches
from distributor.v1.command_pb2 import Command
from distributor.v1.command_service_pb2 import QueueCommandRequest, QueueCommandsRequest
from distributor.wire.limits import MAX_BATCH_COMMANDS
from distributor.wire.transport import MAX_MESSAGE_BYTES


def request(params_bytes: int) -> QueueCommandRequest:
    params = Struct()
    params["text"] = "x" * params_bytes
    return QueueCommandRequest(command=Command(params=params))


@pytest.mark.parametrize(
    ("sizes", "split"),
    [
        ([], []),
        ([1], [1]),
        ([1, 1, 1], [2, 1]),
        ([1, 1, 1, 1], [2, 2]),
        ([90, 90], [1, 1]),
        ([1, 300, 1], [1, 1, 1]),
    ],
)
def test_neither_bound_is_exceeded_and_order_is_kept(sizes: list[int], split: list[int]) -> None:
    requests = [request(size) for size in sizes]

    parts = list(batches(requests, max_commands=2, max_bytes=150))

    assert [len(part) for part in parts] == split
    assert [one for part in parts for one in part] == requests


def test_a_full_batch_of_the_largest_commands_fits_into_a_message() -> None:
    requests = [request(262_000)] * 100

    sizes = [QueueCommandsRequest(requests=part).ByteSize() for part in batches(requests)]

    assert len(sizes) > 1
    assert MAX_BATCH_BYTES * 0.9 < max(sizes) < MAX_MESSAGE_BYTES
    assert MAX_BATCH_COMMANDS == 1_000
