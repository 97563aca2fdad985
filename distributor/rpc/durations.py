"""Converts durations on the wire, which may hold any number, to numbers that cannot overflow."""

from __future__ import annotations

from typing import Final

from google.protobuf.duration_pb2 import Duration

from distributor.errors import InvalidArgument

_MAX_NANOS: Final = 999_999_999


def milliseconds(field: str, duration: Duration) -> int:
    """Convert a duration of any length. Raises InvalidArgument for one that is malformed."""
    if abs(duration.nanos) > _MAX_NANOS or duration.seconds * duration.nanos < 0:
        raise InvalidArgument(
            f"{field}.nanos must be within ±{_MAX_NANOS:,} and have the sign of seconds, not {duration.nanos:,}",
            field=field,
            reason="INVALID_DURATION",
        )
    return duration.seconds * 1000 + duration.nanos // 1_000_000
