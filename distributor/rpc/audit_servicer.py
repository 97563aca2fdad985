"""AuditService on the wire: convert, call the use case, convert back."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import Any, Final

import grpc

from distributor.dispatch.audit_reading import AuditReading
from distributor.dispatch.audit_recorder import NO_AUDIT, Audit
from distributor.dispatch.dashboard_audit import DashboardAudit
from distributor.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from distributor.rpc.audit_messages import audit_filter, fill_entry, fill_verdicts
from distributor.rpc.current_caller import current_caller
from distributor.rpc.dashboard_events import dashboard_events
from distributor.v1 import audit_pb2 as pb
from distributor.v1.audit_pb2_grpc import AuditServiceServicer

DEFAULT_PAGE: Final = 100
MAX_PAGE: Final = 1_000
MAX_SEQUENCE: Final = 1 << 53
"""More rows than any trail will have, and still an id of a stream of Valkey."""

Context = grpc.aio.ServicerContext[Any, Any]


class AuditServicer(AuditServiceServicer):
    """One method per RPC. Raises our errors; an interceptor converts them to a status."""

    def __init__(
        self, reading: AuditReading | None, checkpoint: Callable[[], str] = str, audit: Audit = NO_AUDIT
    ) -> None:
        """Without `reading`, the trail is off. `checkpoint` returns the last one."""
        self._opened = reading
        self._checkpoint = checkpoint
        self._dashboards = DashboardAudit(audit)

    async def ListAuditEntries(
        self, request: pb.ListAuditEntriesRequest, context: Context
    ) -> pb.ListAuditEntriesResponse:
        reading = self._reading()
        size = request.page_size or DEFAULT_PAGE
        if not 1 <= size <= MAX_PAGE:
            raise InvalidArgument(
                f"page_size must be 1 to {MAX_PAGE:,}, not {size}", field="page_size", reason="PAGE_SIZE_OUT_OF_RANGE"
            )
        page = await reading.page(audit_filter(request.filter), request.page_token, size)
        response = pb.ListAuditEntriesResponse(next_page_token=page.next_token)
        for entry in page.entries:
            fill_entry(response.entries.add(), entry)
        return response

    async def ExportAudit(
        self, request: pb.ExportAuditRequest, context: Context
    ) -> AsyncIterator[pb.ExportAuditResponse]:
        wanted = audit_filter(request.filter)
        if not 0 <= request.after_sequence <= MAX_SEQUENCE:
            raise InvalidArgument(
                f"after_sequence must be 0 to {MAX_SEQUENCE:,}, not {request.after_sequence:,}",
                field="after_sequence",
                reason="SEQUENCE_OUT_OF_RANGE",
            )
        pieces = self._reading().export(wanted, request.after_sequence, follow=request.follow)
        async with aclosing(pieces):
            async for entries in pieces:
                response = pb.ExportAuditResponse()
                for entry in entries:
                    fill_entry(response.entries.add(), entry)
                yield response

    async def VerifyAudit(self, request: pb.VerifyAuditRequest, context: Context) -> pb.VerifyAuditResponse:
        verdicts = await self._reading().verify(request.checkpoints)
        response = pb.VerifyAuditResponse(checkpoint=self._checkpoint())
        fill_verdicts(response, verdicts)
        return response

    async def RecordDashboardEvents(
        self, request: pb.RecordDashboardEventsRequest, context: Context
    ) -> pb.RecordDashboardEventsResponse:
        self._dashboards.record(current_caller(), dashboard_events(request), request.lost)
        return pb.RecordDashboardEventsResponse()

    def _reading(self) -> AuditReading:
        """Raises PermissionDenied for a caller that may not see every agent."""
        caller = current_caller()
        if not caller.grants.everything:
            raise PermissionDenied(
                f"the audit trail is for administrators of all agents, and {caller} has grants for some only",
                reason="GRANTS_TOO_NARROW",
            )
        if self._opened is None:
            raise FailedPrecondition("this server keeps no audit trail (audit)", reason="AUDIT_OFF")
        return self._opened
