"""Receipts that wait a moment for the result that may follow, to be stored together with it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Final

from distributor.dispatch.ports import CommandStore
from distributor.errors import DistributorError
from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import AgentSession
from distributor.model.delivery import Progress
from distributor.model.in_flight import InFlight
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS

RECEIPT_DELAY_SECONDS: Final = 0.005
"""Far below every deadline that a receipt changes."""


class PendingReceipts:
    """Leases whose receipts are noted in their session but not in the store. One event loop.

    Bounded by what is in flight. If storing fails, it is tried again: a receipt is written once, and only under the
    current lease, so a second attempt changes nothing. When a stream ends, or another of its agent is to be opened, its
    owner calls `flush`.
    """

    def __init__(self, store: CommandStore, delay_seconds: float = RECEIPT_DELAY_SECONDS) -> None:
        self._store = store
        self._delay_seconds = delay_seconds
        self._pending: dict[AgentSession, dict[LeaseRef, None]] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._storing: set[asyncio.Task[None]] = set()

    def add(self, session: AgentSession, leases: Iterable[LeaseRef]) -> None:
        """Store the receipts of these leases soon."""
        self._pending.setdefault(session, {}).update(dict.fromkeys(leases))
        self._schedule(self._delay_seconds)

    def take(self, session: AgentSession, leases: Iterable[LeaseRef]) -> list[LeaseRef]:
        """Return and forget those of `leases` that wait: the caller stores their receipts.

        Iterates `leases` only if something waits.
        """
        pending = self._pending.get(session)
        if pending is None:
            return []
        taken = [lease for lease in dict.fromkeys(leases) if lease in pending]
        for lease in taken:
            del pending[lease]
        if not pending:
            del self._pending[session]
        return taken

    async def flush(self, session: AgentSession) -> None:
        """Return once all receipts of a session are stored.

        Raises Unavailable if Valkey is away; they are then stored later.
        """
        if self._storing:
            await asyncio.wait(self._storing)
        leases = self._pending.pop(session, {})
        if leases:
            try:
                await self._store.progress([progress_of(session, lease) for lease in leases])
            except DistributorError:
                self._store_again({session: leases})
                raise

    def _schedule(self, seconds: float) -> None:
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._store_soon)

    def _store_soon(self) -> None:
        self._timer = None
        if self._pending:
            pending, self._pending = self._pending, {}
            storing = asyncio.create_task(self._store_all(pending), name="store receipts")
            self._storing.add(storing)
            storing.add_done_callback(self._storing.discard)

    async def _store_all(self, pending: dict[AgentSession, dict[LeaseRef, None]]) -> None:
        try:
            await self._store.progress(
                [progress_of(session, lease) for session, leases in pending.items() for lease in leases]
            )
        except DistributorError:
            self._store_again(pending)

    def _store_again(self, pending: dict[AgentSession, dict[LeaseRef, None]]) -> None:
        for session, leases in pending.items():
            self._pending.setdefault(session, {}).update(leases)
        self._schedule(WAIT_AFTER_FAILURE_SECONDS)


def progress_of(session: AgentSession, lease: LeaseRef) -> Progress:
    """How far a session's agent has come with a command."""
    item = session.held(*lease)
    if item is None and session.has_started_given_up(*lease):
        return Progress(lease.command_id, session.agent_id, lease.lease_id, past_start=True)
    return progress(session.agent_id, lease, item)


def progress(agent_id: str, lease: LeaseRef, item: InFlight | None) -> Progress:
    """How far an agent has come with a command; unknown if `item` is None."""
    command_id, lease_id = lease
    if item is None:
        return Progress(command_id, agent_id, lease_id)
    return Progress(command_id, agent_id, lease_id, item.sent, item.acknowledged, item.started)
