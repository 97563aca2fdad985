"""Reads and verifies the audit trail."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

from distributor.client.service_client import ServiceClient
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, AuditOutcome, AuditRow
from distributor.model.audit_filter import AuditFilter
from distributor.model.audit_listing import AuditPage, ReadEntry, VerifiedAudit
from distributor.model.audit_verdict import AuditVerdicts, Finding, Verdict
from distributor.model.dashboard_event import DashboardEvent
from distributor.v1 import audit_pb2
from distributor.v1.audit_pb2_grpc import AuditServiceStub
from distributor.wire.times import bounded_ms

if TYPE_CHECKING:
    import grpc

    from distributor.v1.audit_pb2_grpc import AuditServiceAsyncStub

EVERY_ENTRY: Final = AuditFilter()


class AuditClient(ServiceClient["AuditServiceAsyncStub"]):
    """For administrators; bridges record what happens at them."""

    async def page(self, wanted: AuditFilter = EVERY_ENTRY, token: str = "", size: int = 100) -> AuditPage:
        """One page, newest first. It may be empty although others follow."""
        request = audit_pb2.ListAuditEntriesRequest(filter=_filter(wanted), page_token=token, page_size=size)
        response = await self._calls.call(self._stub.ListAuditEntries, request)
        return AuditPage([_entry(one) for one in response.entries], response.next_page_token)

    async def export(
        self, wanted: AuditFilter = EVERY_ENTRY, after_seq: int = 0, *, follow: bool = False
    ) -> AsyncGenerator[list[ReadEntry], None]:
        """Yield matching entries, oldest first; with `follow`, go on with new ones."""
        request = audit_pb2.ExportAuditRequest(filter=_filter(wanted), after_sequence=after_seq, follow=follow)
        with self._server_errors():
            async for response in self._stub.ExportAudit(request):
                yield [_entry(one) for one in response.entries]

    async def verify(self, checkpoints: Sequence[str] = ()) -> VerifiedAudit:
        """Verify everything that is kept, with these checkpoints and those that agents remember."""
        request = audit_pb2.VerifyAuditRequest(checkpoints=checkpoints)
        response = await self._calls.call(self._stub.VerifyAudit, request)
        named = {one.name: one for one in response.verdicts}
        verdicts = AuditVerdicts(
            rows=response.rows,
            last_seq=response.last_sequence,
            pruned_through=response.pruned_through,
            pruned_until_ms=bounded_ms(response.pruned_until) if response.HasField("pruned_until") else 0,
            origin=response.origin,
            witnesses=response.witnesses,
            unverifiable=response.unverifiable,
            findings={
                one: tuple(Finding(found.sequence, found.text) for found in named[one].findings) for one in Verdict
            },
            counts={one: named[one].count for one in Verdict},
        )
        return VerifiedAudit(verdicts, response.checkpoint)

    async def record(self, events: Sequence[DashboardEvent], lost: int = 0) -> None:
        """Record what happened at a bridge, and how many more events it has lost. For services of role `delegate`.

        At least once: a call that fails may have been recorded.
        """
        request = audit_pb2.RecordDashboardEventsRequest(events=map(_dashboard_event, events), lost=lost)
        await self._calls.call(self._stub.RecordDashboardEvents, request)

    def _make_stub(self, channel: grpc.aio.Channel) -> AuditServiceAsyncStub:
        return AuditServiceStub(channel)


def _filter(wanted: AuditFilter) -> audit_pb2.AuditFilter:
    message = audit_pb2.AuditFilter(
        actor=wanted.actor,
        agent_id=wanted.agent_id,
        command_id=wanted.command_id,
        types=wanted.types,
        outcomes=wanted.outcomes,
    )
    if wanted.after_ms:
        message.after.FromMilliseconds(wanted.after_ms)
    if wanted.before_ms:
        message.before.FromMilliseconds(wanted.before_ms)
    return message


def _dashboard_event(event: DashboardEvent) -> audit_pb2.DashboardEvent:
    message = audit_pb2.DashboardEvent(
        kind=audit_pb2.DashboardEventKind.Value(f"DASHBOARD_EVENT_KIND_{event.kind.name}"),
        user=event.user,
        address=event.address,
        command_ids=event.command_ids,
        count=event.count,
        reason=event.reason,
        method=event.method,
        token_id=event.token_id,
    )
    message.age.FromMilliseconds(event.age_ms)
    return message


def _entry(message: audit_pb2.AuditEntry) -> ReadEntry:
    try:
        entry = AuditEntry(
            AuditEvent(message.type),
            AuditActor(message.actor_kind, message.actor, message.on_behalf_of, message.address),
            AuditOutcome(message.outcome),
            message.agent_id,
            tuple(message.command_ids),
            message.reason,
            message.count,
            dict(message.details),
        )
    except ValueError:
        # Not decoded by the server, or of a kind that only a later version knows.
        return ReadEntry(message.sequence, None, not message.tampered)
    row = AuditRow(message.sequence, bounded_ms(message.time), entry, message.key_id)
    return ReadEntry(message.sequence, row, not message.tampered)
