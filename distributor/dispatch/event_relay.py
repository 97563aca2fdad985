"""Reads the event stream and notifies watchers, agents whose command is cancelled, and the distributor."""

from __future__ import annotations

import asyncio
import logging
import time

from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.ports import EventLog
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.errors import DistributorError
from distributor.model.control import CONTROL_TYPES
from distributor.model.event import AgentChanged, CommandChanged, EventBatch, EventKind, EventRecord
from distributor.model.position import milliseconds_of
from distributor.observability.logging import get_logger
from distributor.observability.metrics import Metrics
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

logger = get_logger()


class EventRelay:
    """One loop per replica. It changes nothing in the store, so reading an event twice is harmless."""

    def __init__(
        self,
        log: EventLog,
        replica: str,
        registry: AgentRegistry,
        wakeups: Wakeups,
        watches: Watches,
        metrics: Metrics,
    ) -> None:
        self.wait_after_failure_seconds = WAIT_AFTER_FAILURE_SECONDS
        self._log = log
        self._replica = replica
        self._registry = registry
        self._wakeups = wakeups
        self._watches = watches
        self._metrics = metrics
        self._position = ""
        self._outage = Outage("read events")
        self.missed = asyncio.Event()
        """Set when events were missed; the waiter clears it."""

    async def run(self) -> None:
        """Relay events until cancelled, from the newest onwards."""
        unbroken = bool(self._position)
        while True:
            try:
                # Ask every time: on an idle system, only this call shows that events are readable again.
                newest = await self._log.last_position()
                self._outage.recovered()
                self._position = self._position or newest
                if not unbroken:
                    # Events may have been trimmed during the outage, so watchers reread states.
                    self._watches.resync()
                async for batch in self._log.tail(self._position):
                    self._position = batch.position
                    if batch.missed:
                        self._resync()
                    self.relay(batch)
            except DistributorError as error:
                unbroken = False
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)

    async def catch_up(self) -> None:
        """Start at the newest event. Called before serving, so that no event is missed."""
        self._position = await self._log.last_position()

    def _resync(self) -> None:
        """Events were trimmed before they were read: resync everything that depends on them."""
        logger.warning("events were missed, rereading states")
        self._watches.resync()
        self.missed.set()
        for agent in self._registry:
            self._wakeups.wake(agent.session.agent_id, control=True)

    def relay(self, batch: EventBatch) -> None:
        """Notify everyone affected by one change."""
        ours = batch.origin == self._replica
        if ours:
            log_transitions(batch)
        for record in batch.records:
            self._watches.note(record)
            match record.kind:
                case EventKind.QUEUED:
                    if not ours:
                        self._queued(record)
                case EventKind.RELEASED:
                    self._assignment_lost(record)
                    # Also for our own: a release without delay should be claimed again at once.
                    if self._registry.get(record.agent_id) is not None:
                        self._wakeups.wake(record.agent_id, control=True)
                case EventKind.CANCEL_REQUESTED:
                    self._cancel(record)
                case EventKind.FINISHED:
                    self._finished(record, ours)
                case EventKind.AGENT:
                    self._agent_changed(record)
                case _:
                    pass
        self._metrics.events_lag(max(0.0, time.time() - milliseconds_of(batch.position) / 1000))

    def _queued(self, record: EventRecord) -> None:
        agent = self._registry.get(record.agent_id)
        if agent is None:
            return
        # The type only matters if the agent has no credit, so decode only then.
        event = record.event() if agent.session.credit == 0 else None
        control = isinstance(event, CommandChanged) and event.state.type in CONTROL_TYPES
        self._wakeups.wake(record.agent_id, control)

    def _cancel(self, record: EventRecord) -> None:
        agent = self._registry.get(record.agent_id)
        event = record.event()
        if agent is not None and isinstance(event, CommandChanged):
            agent.cancel(record.subject, event.state.reason.message)

    def _finished(self, record: EventRecord, ours: bool) -> None:
        self._assignment_lost(record)
        if ours:
            event = record.event()
            if isinstance(event, CommandChanged):
                self._metrics.command_finished(event.state.status, event.state.receipts)

    def _assignment_lost(self, record: EventRecord) -> None:
        """Remove a command from the session if a deadline ended or released it. If it ended, the agent must stop it.

        Changes that the agent reported have left the session before they reach the store.
        """
        agent = self._registry.get(record.agent_id)
        if agent is None or record.subject not in agent.session.in_flight:
            return
        if milliseconds_of(record.position) <= agent.session.opened_ms:
            # Attaching has already accounted for earlier events.
            return
        event = record.event()
        if not isinstance(event, CommandChanged):
            return
        lease_id = agent.session.lost(record.subject, event.state.attempt)
        if lease_id is not None:
            # A released command comes back to this agent. If it already runs it, it continues under the next lease.
            agent.withdraw(record.subject, lease_id, event.state.reason.message, stop=event.state.status.terminal)
            self._wakeups.wake(record.agent_id)

    def _agent_changed(self, record: EventRecord) -> None:
        agent = self._registry.get(record.subject)
        event = record.event()
        if agent is None or milliseconds_of(record.position) < agent.session.opened_ms:
            # From before this session: a greater epoch is then one that the store has lost.
            return
        if isinstance(event, AgentChanged) and event.epoch > agent.session.epoch:
            agent.end(CloseReason.SUPERSEDED)


def log_transitions(batch: EventBatch) -> None:
    """Log each changed command. Above the debug level this costs one check."""
    if not logger.is_enabled_for(logging.DEBUG):
        return
    for record in batch.records:
        event = record.event()
        if isinstance(event, CommandChanged):
            state = event.state
            logger.debug(
                "command changed",
                kind=event.kind.value,
                status=state.status.value,
                command_id=state.command_id,
                agent_id=state.agent_id,
                attempt=state.attempt,
                reason=state.reason.code,
            )
