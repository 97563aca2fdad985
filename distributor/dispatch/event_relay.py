"""Reads the event stream and tells whoever must know: watchers, agents with a cancel coming, the distributor."""

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
    """One loop of each replica. It makes no change itself, so reading an event twice does no harm."""

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
        """Set when events were missed; whoever waits for it clears it."""

    async def run(self) -> None:
        """Relay until cancelled, from the newest event on."""
        while True:
            try:
                # Asked each time: where nothing happens, nothing else tells that events can be read again.
                newest = await self._log.last_position()
                self._outage.recovered()
                self._position = self._position or newest
                # Whatever was trimmed while we were away was missed, so watchers read the states anew.
                self._watches.resync()
                async for batch in self._log.tail(self._position):
                    self._position = batch.position
                    if batch.missed:
                        self._missed()
                    self.relay(batch)
            except DistributorError as error:
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)

    async def catch_up(self) -> None:
        """Begin at the newest event. Called before anything is served, so that no event is missed."""
        self._position = await self._log.last_position()

    def _missed(self) -> None:
        """Events are gone that were never read: whoever goes by them has to look for himself."""
        logger.warning("events were missed, reading states anew")
        self._watches.resync()
        self.missed.set()
        for agent in self._registry:
            self._wakeups.wake(agent.session.agent_id, control=True)

    def relay(self, batch: EventBatch) -> None:
        """Tell everybody about one change."""
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
                    self._taken_away(record)
                    # Ours too: whoever released it without a delay expects it to be given out again at once.
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
        # Only for an agent without room does it matter what was queued, so only then is it decoded.
        event = record.event() if agent.session.credit == 0 else None
        control = isinstance(event, CommandChanged) and event.state.type in CONTROL_TYPES
        self._wakeups.wake(record.agent_id, control)

    def _cancel(self, record: EventRecord) -> None:
        agent = self._registry.get(record.agent_id)
        event = record.event()
        if agent is not None and isinstance(event, CommandChanged):
            agent.cancel(record.subject, event.state.reason.message)

    def _finished(self, record: EventRecord, ours: bool) -> None:
        self._taken_away(record)
        if ours:
            event = record.event()
            if isinstance(event, CommandChanged):
                self._metrics.command_finished(event.state.status, event.state.receipts)

    def _taken_away(self, record: EventRecord) -> None:
        """A deadline may have ended or released it over the agent's head. What has ended, the agent stops.

        What the agent itself brought about has left the flight before the store was told.
        """
        agent = self._registry.get(record.agent_id)
        if agent is None or record.subject not in agent.session.in_flight:
            return
        if milliseconds_of(record.position) <= agent.session.opened_ms:
            # What happened before the session was opened has been settled by opening it.
            return
        event = record.event()
        if not isinstance(event, CommandChanged):
            return
        lease_id = agent.session.lost(record.subject, event.state.attempt)
        if lease_id is not None:
            # What was released comes back to this agent. Should it run that already, it goes on under the next lease.
            agent.withdraw(record.subject, lease_id, event.state.reason.message, stop=event.state.status.terminal)
            self._wakeups.wake(record.agent_id)

    def _agent_changed(self, record: EventRecord) -> None:
        agent = self._registry.get(record.subject)
        event = record.event()
        if agent is None or milliseconds_of(record.position) < agent.session.opened_ms:
            # Of a time before this session: an epoch that is greater all the same is one that the store has forgotten.
            return
        if isinstance(event, AgentChanged) and event.epoch > agent.session.epoch:
            agent.end(CloseReason.SUPERSEDED)


def log_transitions(batch: EventBatch) -> None:
    """A line for each command that changed. Costs one look at the level where nobody wants to know."""
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
