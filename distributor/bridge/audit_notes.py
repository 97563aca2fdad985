"""Reports to the server, for its audit trail, what dashboards do at this bridge."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Protocol, TypeAlias

from distributor.errors import DistributorError, InvalidArgument, PermissionDenied, ResourceExhausted, Unauthenticated
from distributor.identity.caller import Caller
from distributor.model.audit_entry import MAX_IDS
from distributor.model.dashboard_event import MAX_EVENTS, DashboardEvent, DashboardEventKind
from distributor.observability.logging import get_logger
from distributor.observability.outage import Outage
from distributor.wire.client_address import ip_address_text

logger = get_logger()

GATHER_SECONDS: Final = 0.5
"""How long events wait for others: the most that a killed bridge loses while the server is there."""
RETRY_SECONDS: Final = 2.0
MAX_WAITING: Final = 5_000
"""Events that wait while the server is away. More of the same kind and user only count; others are lost."""

_REFUSALS: Final = (
    (Unauthenticated, DashboardEventKind.CALLER_REFUSED),
    (PermissionDenied, DashboardEventKind.PERMISSION_DENIED),
    (ResourceExhausted, DashboardEventKind.LIMIT_EXCEEDED),
)

_Key: TypeAlias = tuple[DashboardEventKind, str, str, str, str, str]


class Record(Protocol):
    """Sends events to the server."""

    async def __call__(self, events: Sequence[DashboardEvent], lost: int) -> None:
        """Record events, and how many more were lost. Raises errors of `distributor.errors`."""


@dataclass(slots=True)
class _Waiting:
    key: _Key
    at: float
    count: int = 0
    command_ids: list[str] = field(default_factory=list)

    def event(self, now: float) -> DashboardEvent:
        kind, user, address, reason, method, token_id = self.key
        age_ms, ids = max(0, round((now - self.at) * 1_000)), tuple(self.command_ids)
        return DashboardEvent(kind, user, address, ids, self.count, reason, method, token_id, age_ms)


class AuditNotes:
    """One bounded queue with one loop. Noting never blocks, so no dashboard waits for the server.

    Events of one kind and user become one as long as they wait. While the server is away they are kept; how many were
    lost is reported when it is back. Events are reported at least once.
    """

    def __init__(self, record: Record | None, clock: Callable[[], float] = time.monotonic) -> None:
        """Without `record`, nothing is noted. `clock` is in seconds."""
        self._record = record
        self._clock = clock
        self._waiting: list[_Waiting] = []
        self._open: dict[_Key, _Waiting] = {}
        self._taken: list[_Waiting] = []
        """A report that the server has not confirmed."""
        self._lost = 0
        self._awake = asyncio.Event()
        self._outage = Outage("report to the audit trail")

    def read(self, kind: DashboardEventKind, caller: Caller, command_id: str) -> None:
        """Note that a result or output was sent."""
        self._note((kind, caller.subject, ip_address_text(caller.address), "", "", ""), command_id)

    def connected(self, caller: Caller, method: str) -> None:
        """Note that a user connected or signed in, by a message or route."""
        address, token_id = ip_address_text(caller.address), next(iter(caller.token_ids), "")
        self._note((DashboardEventKind.CONNECTED, caller.subject, address, "", method, token_id))

    def disconnected(self, caller: Caller, reason: str) -> None:
        """Note that a dashboard disconnected; `reason` is a reason code if the bridge closed the connection."""
        address = ip_address_text(caller.address)
        self._note((DashboardEventKind.DISCONNECTED, caller.subject, address, reason, "", ""))

    def refused(self, error: DistributorError, method: str, user: str = "", address: str = "") -> None:
        """Note an error if it is a refusal; `method` is the message or route that was refused."""
        kind = next((kind for type_, kind in _REFUSALS if isinstance(error, type_)), None)
        if kind is None and error.field == "token":
            # No token, or one that is not text.
            kind = DashboardEventKind.CALLER_REFUSED
        if kind is not None:
            self._note((kind, user, ip_address_text(address), error.reason, method, ""))

    def _note(self, key: _Key, command_id: str = "") -> None:
        if self._record is None:
            return
        known = self._open.get(key)
        full = len(self._waiting) + len(self._taken) >= MAX_WAITING
        if known is None or (command_id and len(known.command_ids) >= MAX_IDS and not full):
            if full:
                self._lost += 1
                return
            known = self._open[key] = _Waiting(key, self._clock())
            self._waiting.append(known)
        known.count += 1
        if command_id and len(known.command_ids) < MAX_IDS:
            known.command_ids.append(command_id)
        self._awake.set()

    async def run(self) -> None:
        """Report until cancelled."""
        while True:
            await self._awake.wait()
            await asyncio.sleep(GATHER_SECONDS)
            self._awake.clear()
            try:
                await self.run_once()
                self._outage.recovered()
            except DistributorError as error:
                self._outage.failed(error)
                self._awake.set()
                await asyncio.sleep(RETRY_SECONDS)

    async def run_once(self) -> None:
        """Report waiting events. Raises errors of `distributor.errors`; unreported events stay."""
        while self._record is not None and (self._taken or self._waiting or self._lost):
            if not self._taken:
                self._taken, self._waiting = self._waiting[:MAX_EVENTS], self._waiting[MAX_EVENTS:]
                # Events being reported must not change any more.
                self._open = {one.key: one for one in self._waiting}
            lost, now = self._lost, self._clock()
            try:
                await self._record([one.event(now) for one in self._taken], lost)
                self._lost -= lost
            except InvalidArgument as error:
                logger.error("the server refuses a report to the audit trail", error=str(error))
                self._lost += sum(one.count for one in self._taken)
            self._taken = []

    async def close(self) -> None:
        """Report what waits, once."""
        try:
            await self.run_once()
        except DistributorError as error:
            lost = self._lost + sum(one.count for one in (*self._taken, *self._waiting))
            logger.warning("the last reports to the audit trail are lost", events=lost, error=str(error))


NO_NOTES: Final = AuditNotes(None)
