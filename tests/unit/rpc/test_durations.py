"""Durations on the wire: any number converts without overflow, and malformed ones name their field."""

from __future__ import annotations

import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.errors import InvalidArgument
from distributor.rpc.durations import milliseconds


@pytest.mark.parametrize(
    ("duration", "ms"),
    [
        (Duration(), 0),
        (Duration(seconds=2, nanos=5_999_999), 2_005),
        (Duration(seconds=2**63 - 1, nanos=1), (2**63 - 1) * 1_000),
        (Duration(seconds=-(2**63)), -(2**63) * 1_000),
    ],
)
def test_any_length_converts(duration: Duration, ms: int) -> None:
    assert milliseconds("timeout", duration) == ms


@pytest.mark.parametrize("duration", [Duration(nanos=10**9), Duration(seconds=1, nanos=-1), Duration(nanos=-(2**31))])
def test_malformed_ones_name_their_field(duration: Duration) -> None:
    with pytest.raises(InvalidArgument) as caught:
        milliseconds("timeout", duration)
    assert (caught.value.field, caught.value.reason) == ("timeout", "INVALID_DURATION")
