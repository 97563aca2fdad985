"""Times and durations that hold any numbers."""

from __future__ import annotations

import re
from typing import Final

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc import error_details_pb2, status_pb2

from distributor.wire.documents import time_text
from distributor.wire.status_details import retry_after_of
from distributor.wire.times import bounded_ms, bounded_seconds, retry_seconds
from tests.support.source_tree import PACKAGE

MOST: Final = 2**63 - 1
WILD: Final = [(MOST, 2**31 - 1), (-MOST, -(2**31)), (2**62, 0), (0, -5), (10, -2_000_000_000)]


@pytest.mark.parametrize(("seconds", "nanos", "expected"), [(0, 0, 0.0), (2, 500_000_000, 2.5), (86_400, 0, 86_400.0)])
def test_a_usual_duration(seconds: int, nanos: int, expected: float) -> None:
    assert bounded_seconds(Duration(seconds=seconds, nanos=nanos)) == expected


@pytest.mark.parametrize(("seconds", "nanos"), WILD)
def test_a_wild_duration(seconds: int, nanos: int) -> None:
    duration = Duration(seconds=seconds, nanos=nanos)
    assert 0 <= bounded_seconds(duration) <= 30 * 86_400
    assert 0 <= retry_seconds(duration) <= 3_600


@pytest.mark.parametrize(("seconds", "nanos"), WILD)
def test_a_wild_time(seconds: int, nanos: int) -> None:
    assert re.fullmatch(r"\d{4}-.*Z", time_text(bounded_ms(Timestamp(seconds=seconds, nanos=nanos))))


def test_a_usual_time() -> None:
    assert bounded_ms(Timestamp(seconds=1_700_000_000, nanos=123_456_789)) == 1_700_000_000_123


@pytest.mark.parametrize(("seconds", "nanos"), WILD)
def test_a_server_keeps_nobody_away_by_a_wild_delay(seconds: int, nanos: int) -> None:
    status = status_pb2.Status()
    status.details.add().Pack(error_details_pb2.RetryInfo(retry_delay=Duration(seconds=seconds, nanos=nanos)))
    assert 0 <= (retry_after_of(status) or 0) <= 3_600


def test_no_part_that_hears_a_server_converts_a_time_by_itself() -> None:
    """protobuf's own conversions raise ValueError and OverflowError for what a peer may send."""
    own = re.compile(r"(\w+)\.To(Timedelta|Datetime|JsonString|Seconds|Milliseconds|Microseconds|Nanoseconds)\(")
    found = {
        f"{path.relative_to(PACKAGE)}: {match[0]}"
        for folder in ("agent", "bridge", "client", "wire")
        for path in sorted((PACKAGE / folder).rglob("*.py"))
        for match in own.finditer(path.read_text())
        # Durations of a command that is shown become integers, and those have no limit.
        if match[0]
        not in {f"{name}.ToMilliseconds(" for name in ("time_limit", "queue_ttl", "idle_limit", "handler_lag")}
    }
    assert found == set()
