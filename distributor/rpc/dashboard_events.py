"""Reads and checks what bridges report of their dashboards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from distributor.errors import InvalidArgument
from distributor.identity.permissions import MESSAGES, ROUTES
from distributor.model.audit_entry import MAX_IDS
from distributor.model.command import InvalidField, check_command_id
from distributor.model.dashboard_event import MAX_COUNT, MAX_EVENTS, MAX_NAME, DashboardEvent, DashboardEventKind
from distributor.rpc.durations import milliseconds
from distributor.v1 import audit_pb2 as pb
from distributor.wire.client_address import ip_address_text

REASON: Final = re.compile(r"(?:[A-Z][A-Z0-9_]{0,63})?")
_KINDS: Final = {
    value: DashboardEventKind(name.removeprefix("DASHBOARD_EVENT_KIND_").lower())
    for name, value in pb.DashboardEventKind.items()
    if value
}
_METHODS: Final = frozenset({"", *MESSAGES, *ROUTES})


def dashboard_events(request: pb.RecordDashboardEventsRequest) -> list[DashboardEvent]:
    """The events of a report, all or none. Raises InvalidArgument."""
    if len(request.events) > MAX_EVENTS:
        raise _invalid("events", f"must be at most {MAX_EVENTS}")
    if not 0 <= request.lost <= MAX_COUNT:
        raise _invalid("lost", f"must be 0 to {MAX_COUNT:,}")
    return list(_events(request))


def _events(request: pb.RecordDashboardEventsRequest) -> Iterator[DashboardEvent]:
    for place, message in enumerate(request.events):
        try:
            yield _event(message, f"events[{place}]")
        except InvalidField as error:
            raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def _event(message: pb.DashboardEvent, place: str) -> DashboardEvent:
    kind = _KINDS.get(message.kind)
    ids = tuple(message.command_ids)
    for field, holds in (
        ("kind", kind is not None),
        ("user", _is_name(message.user)),
        ("token_id", _is_name(message.token_id)),
        ("address", not message.address or ip_address_text(message.address) == message.address),
        ("command_ids", len(ids) <= MAX_IDS),
        ("count", max(1, len(ids)) <= message.count <= MAX_COUNT),
        ("reason", REASON.fullmatch(message.reason) is not None),
        ("method", message.method in _METHODS),
    ):
        if not holds:
            raise _invalid(f"{place}.{field}", "has no such value")
    for command_id in ids:
        check_command_id(command_id, f"{place}.command_ids")
    assert kind is not None
    return DashboardEvent(
        kind,
        message.user,
        message.address,
        ids,
        message.count,
        message.reason,
        message.method,
        message.token_id,
        max(0, milliseconds(f"{place}.age", message.age)),
    )


def _is_name(text: str) -> bool:
    return len(text) <= MAX_NAME and (not text or text.isprintable())


def _invalid(field: str, problem: str) -> InvalidArgument:
    return InvalidArgument(f"{field} {problem}", field=field, reason="INVALID_DASHBOARD_EVENT")
