from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.client.audit_client import _dashboard_event
from distributor.errors import InvalidArgument
from distributor.model.dashboard_event import MAX_EVENTS, DashboardEvent, DashboardEventKind
from distributor.rpc.dashboard_events import dashboard_events
from distributor.v1 import audit_pb2 as pb

ID = str(UUID(int=(7 << 76) | (2 << 62)))
GOOD: dict[str, Any] = {"kind": pb.DASHBOARD_EVENT_KIND_RESULT_READ, "count": 1}


def test_what_a_bridge_sends_is_what_the_server_reads() -> None:
    events = [
        DashboardEvent(kind, "alice", "192.0.2.9", (ID,), 3, "TOKEN_EXPIRED", "dashboard:connect", "t-1", 1_234)
        for kind in DashboardEventKind
    ]
    request = pb.RecordDashboardEventsRequest(events=map(_dashboard_event, events))
    assert dashboard_events(request) == events


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": 0},
        {"kind": 99},
        {"user": "a\tb"},
        {"user": "a" * 256},
        {"token_id": "\x1b"},
        {"address": "localhost"},
        {"address": "::FFFF"},
        {"command_ids": ["x"]},
        {"command_ids": [ID] * 21, "count": 21},
        {"command_ids": [ID] * 2},
        {"count": 0},
        {"count": 1 << 40},
        {"reason": "a free text"},
        {"method": "anything"},
        {"age": Duration(seconds=1, nanos=-1)},
    ],
)
def test_what_a_bridge_would_not_send_is_refused(wrong: dict[str, Any]) -> None:
    event = pb.DashboardEvent(**{**GOOD, **wrong})
    with pytest.raises(InvalidArgument):
        dashboard_events(pb.RecordDashboardEventsRequest(events=[pb.DashboardEvent(**GOOD), event]))


def test_a_report_is_bounded() -> None:
    for request in (
        pb.RecordDashboardEventsRequest(events=[pb.DashboardEvent(**GOOD)] * (MAX_EVENTS + 1)),
        pb.RecordDashboardEventsRequest(lost=-1),
        pb.RecordDashboardEventsRequest(lost=1 << 62),
    ):
        with pytest.raises(InvalidArgument):
            dashboard_events(request)


@pytest.mark.parametrize("age", [Duration(seconds=1 << 60), Duration(seconds=-5)])
def test_any_age_is_read(age: Duration) -> None:
    (event,) = dashboard_events(pb.RecordDashboardEventsRequest(events=[pb.DashboardEvent(**GOOD, age=age)]))
    assert event.age_ms >= 0
