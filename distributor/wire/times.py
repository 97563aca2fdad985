"""Reads times and durations that a peer sent. Any numbers may be in them: none raises, overflows, or lasts for ever."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from distributor.model.command import MAX_DURATION_MS

MAX_RETRY_SECONDS: Final = 3_600.0
"""Longer than any server of ours asks to wait."""
_FIRST_MS: Final = -62_135_596_800_000
_LAST_MS: Final = 253_402_300_799_999


def bounded_seconds(duration: Duration, most: float = MAX_DURATION_MS / 1_000) -> float:
    """Return the seconds of a duration, 0 to `most`, which is 30 days."""
    return min(max(duration.seconds + duration.nanos / 1e9, 0.0), most)


def retry_seconds(duration: Duration) -> float:
    """Return the seconds after which a peer asks to try again, at most an hour: it must not keep anyone away."""
    return bounded_seconds(duration, MAX_RETRY_SECONDS)


def bounded_ms(time: Timestamp) -> int:
    """Return milliseconds since the epoch, of the years 1 to 9999."""
    return min(max(time.seconds * 1_000 + time.nanos // 1_000_000, _FIRST_MS), _LAST_MS)
