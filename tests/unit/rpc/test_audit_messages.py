"""Filters of the audit trail on the wire."""

from __future__ import annotations

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from distributor.errors import InvalidArgument
from distributor.rpc.audit_messages import audit_filter
from distributor.v1 import audit_pb2 as pb


def test_times_become_milliseconds() -> None:
    found = audit_filter(pb.AuditFilter(after=Timestamp(seconds=1, nanos=2_000_000), before=Timestamp(seconds=3)))
    assert (found.after_ms, found.before_ms) == (1_002, 3_000)


@pytest.mark.parametrize("field", ["after", "before"])
@pytest.mark.parametrize("time", [Timestamp(seconds=2**53 + 1), Timestamp(nanos=-(2**31)), Timestamp(seconds=-(2**63))])
def test_a_time_that_is_none_names_its_field(field: str, time: Timestamp) -> None:
    with pytest.raises(InvalidArgument) as caught:
        audit_filter(pb.AuditFilter(**{field: time}))  # type: ignore[arg-type]
    assert caught.value.field == f"filter.{field}"
