"""Relays changes to watchers, agents whose command is cancelled, and the distributor."""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import aclosing
from typing import Final

from distributor.dispatch.agent_registry import AgentRegistry, AttachedAgent, CloseReason
from distributor.dispatch.deadline_alarm import DeadlineAlarm
from distributor.dispatch.deadlines import MIN_WAIT_SECONDS
from distributor.dispatch.given_up import stop_given_up
from distributor.dispatch.ports import EventLog
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.errors import DistributorError
from distributor.model.control import CONTROL_TYPES
from distributor.model.event import (
    AgentChanged,
    CommandChanged,
    CommandReady,
    EventBatch,
    EventKind,
    LateReport,
    OutputArrived,
    StopsChanged,
)
from distributor.model.position import milliseconds_of
from distributor.observability.logging import get_logger
from distributor.observability.metrics import Metrics
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

logger = get_logger()

LOST_REPLY_SECONDS = 1.0
"""How long an own change that was read from the stream waits for its reply, which follows within milliseconds."""

MAX_UNANSWERED = 1_000
"""Far more than the calls in flight, whose replies may be late or lost."""

MAX_UNREAD = 10_000
"""Own changes that were relayed and not read yet, or read and not relayed.

They accumulate while the stream cannot be read, or while nothing becomes durable.
"""

_NEAR_DEADLINES: Final = frozenset({EventKind.RELEASED, EventKind.UNCONFIRMED})
"""Changes that set the end of a delay, or of a wait that began long ago. Others set deadlines that queueing names, or
that are at least a heartbeat interval away."""


class EventRelay:
    """One loop per replica. It changes nothing in the store, so relaying an event twice is harmless.

    This replica's own changes come to `relay_own` with the reply of the call that made them, and are skipped when the
    loop reads them. The loop serves the changes of other replicas, and own ones whose reply was lost.
    """

    def __init__(
        self,
        log: EventLog,
        replica: str,
        registry: AgentRegistry,
        wakeups: Wakeups,
        watches: Watches,
        metrics: Metrics,
    ) -> None:
        self.alarm = DeadlineAlarm()
        """Set for changes of this replica that may set a near deadline."""
        self.wait_after_failure_seconds = WAIT_AFTER_FAILURE_SECONDS
        self._log = log
        self._replica = replica
        self._registry = registry
        self._wakeups = wakeups
        self._watches = watches
        self._metrics = metrics
        self._position = ""
        self._relayed: dict[str, None] = {}
        """Positions of own changes that were relayed and not read yet."""
        self._skip = False
        """Continue at the newest event, not after the last one read."""
        self._early: dict[str, EventBatch] = {}
        """Own changes that were read before their replies, by position."""
        self._unanswered: dict[str, None] = {}
        """Positions of the latest own changes that were relayed without a reply, as it is overdue."""
        self._relaying: set[asyncio.Task[None]] = set()
        self.lost_reply_seconds = LOST_REPLY_SECONDS
        self._outage = Outage("read events")
        self._probing: dict[str, asyncio.Task[None]] = {}
        self.missed = asyncio.Event()
        """Set when events were missed; the waiter clears it."""
        self.stops_changed = asyncio.Event()
        """Set when an emergency stop may have begun or ended; the waiter clears it."""

    async def run(self) -> None:
        """Relay events until cancelled, from the newest onwards."""
        unbroken = bool(self._position)
        while True:
            try:
                await self._begin(unbroken)
                unbroken = False
                async with aclosing(self._log.tail(self._position)) as batches:
                    async for batch in batches:
                        if batch.missed or self._skip:
                            break
                        self._read(batch)
                self._skip = True
            except DistributorError as error:
                unbroken = False
                self._outage.failed(error)
                await asyncio.sleep(self.wait_after_failure_seconds)

    async def catch_up(self) -> None:
        """Start at the newest event. Called before serving, so that no event is missed."""
        self._position = await self._log.last_position()

    async def _begin(self, unbroken: bool) -> None:
        """Find where to continue. What depends on skipped events is resynced afterwards, so that there is no gap."""
        if self._skip:
            # Before the call: they are not newer than the newest event.
            self._relayed.clear()
        # Ask every time: on an idle system, only this call shows that events are readable again.
        newest = await self._log.last_position()
        self._outage.recovered()
        if self._skip:
            self._skip = False
            self._position = newest
            self._resync()
        elif not unbroken:
            self._position = self._position or newest
            # Events may have been trimmed during the outage, so watchers reread states.
            self._watches.resync()

    def _resync(self) -> None:
        """Events are skipped: resync everything that depends on them."""
        logger.warning("events were missed, rereading states")
        self._watches.resync()
        self.missed.set()
        self.stops_changed.set()
        for agent in self._registry:
            self._wakeups.wake(agent.session.agent_id, control=True)

    def _read(self, batch: EventBatch) -> None:
        self._position = batch.position
        if batch.origin != self._replica:
            self.relay(batch)
        elif batch.position in self._relayed:
            del self._relayed[batch.position]
        else:
            self._await_reply(batch)
        self._metrics.events_lag(max(0.0, time.time() - milliseconds_of(batch.position) / 1000))

    def relay_own(self, batch: EventBatch) -> None:
        """Relay a change that this replica has just made."""
        if self._unanswered and batch.position in self._unanswered:
            del self._unanswered[batch.position]
            return
        if self._early.pop(batch.position, None) is None:
            self._note_relayed(batch.position)
        self.relay(batch)

    def _note_relayed(self, position: str) -> None:
        if len(self._relayed) < MAX_UNREAD:
            self._relayed[position] = None
        else:
            self._skip = True

    def _await_reply(self, batch: EventBatch) -> None:
        """Relay an own change only if its reply is lost: each is counted once."""
        if len(self._early) >= MAX_UNREAD:
            self._early.clear()
            self._skip = True
            return
        self._early[batch.position] = batch
        self._look_later(batch.position)

    def _look_later(self, position: str) -> None:
        asyncio.get_running_loop().call_later(self.lost_reply_seconds, self._look_for_reply, position)

    def _look_for_reply(self, position: str) -> None:
        if position in self._early:
            relaying = asyncio.create_task(self._relay_unanswered(position), name="relay an unanswered change")
            self._relaying.add(relaying)
            relaying.add_done_callback(self._relaying.discard)

    async def _relay_unanswered(self, position: str) -> None:
        try:
            await self._log.settled()
        except DistributorError:
            # It may yet be lost. The reply may also have been an error because of that.
            self._look_later(position)
            return
        batch = self._early.pop(position, None)
        if batch is not None:
            self._unanswered[position] = None
            if len(self._unanswered) > MAX_UNANSWERED:
                del self._unanswered[next(iter(self._unanswered))]
            self.relay(batch)

    def relay(self, batch: EventBatch) -> None:
        """Notify everyone affected by one change."""
        ours = batch.origin == self._replica
        if ours:
            log_transitions(batch)
        at_ms = milliseconds_of(batch.position)
        for event in batch.events:
            match event:
                case CommandChanged():
                    self._watches.note(event, at_ms)
                    self._command_changed(event, ours)
                case LateReport():
                    if ours:
                        _log_late(event)
                case OutputArrived():
                    self._watches.note_output(event)
                case CommandReady():
                    self._queued(event.agent_id, event.type)
                case AgentChanged():
                    self._agent_changed(event, ours)
                case StopsChanged():
                    self.stops_changed.set()

    def _command_changed(self, change: CommandChanged, ours: bool) -> None:
        if ours and change.kind in _NEAR_DEADLINES:
            self.alarm.set(MIN_WAIT_SECONDS)
        match change.kind:
            case EventKind.QUEUED:
                if not ours and change.whole is not None:
                    self._queued(change.agent_id, change.whole.type)
            case EventKind.RELEASED:
                self._assignment_lost(change)
                # Also for our own: a release without delay should be claimed again at once.
                if self._registry.get(change.agent_id) is not None:
                    self._wakeups.wake(change.agent_id, control=True)
            case EventKind.UNCONFIRMED:
                self._assignment_lost(change)
            case EventKind.CANCEL_REQUESTED:
                agent = self._registry.get(change.agent_id)
                if agent is not None:
                    agent.cancel(change.command_id, change.reason.message)
            case EventKind.FINISHED:
                self._finished(change, ours)
            case _:
                pass

    def _finished(self, change: CommandChanged, ours: bool) -> None:
        self._assignment_lost(change)
        agent = self._registry.get(change.agent_id)
        if agent is not None and agent.session.given_up:
            stop_given_up(agent, change.command_id, change.reason.message)
        if agent is not None and agent.session.needed_slots and change.whole and not change.whole.receipts.assigned_ms:
            # It ended in the queue: others may have waited behind it for its slots.
            self._wakeups.wake(change.agent_id)
        if ours and change.whole is not None:
            self._metrics.command_finished(change.whole.status, change.whole.receipts)

    def _queued(self, agent_id: str, command_type: str) -> None:
        if self._registry.get(agent_id) is not None:
            self._wakeups.wake(agent_id, control=command_type in CONTROL_TYPES)

    def _assignment_lost(self, change: CommandChanged) -> None:
        """Remove a command from the session if a deadline ended or released it, or left it in doubt.

        If it ended, the agent must stop it. In doubt, it takes no room: if the agent runs it, its heartbeats say so.

        Changes that the agent reported have left the session before they reach the store.
        """
        agent = self._registry.get(change.agent_id)
        if agent is None:
            return
        item = agent.session.in_flight.get(change.command_id)
        if item is None or change.revision <= item.revision:
            # An agent that attached again may have kept an attempt that had been taken away.
            return
        cancel_reason = item.cancel_reason
        # One that has ended is shown as the attempt that ended it, perhaps an earlier one.
        attempt = item.attempt if change.status.terminal else change.attempt
        lease_id = agent.session.lost(change.command_id, attempt)
        if lease_id is not None:
            # A released command comes back to this agent. If it already runs it, it continues under the next lease.
            agent.withdraw(change.command_id, lease_id, change.reason.message, stop=change.status.terminal)
            if cancel_reason is not None and not change.status.terminal:
                # The answer to the cancel still counts.
                agent.session.cancelling(change.command_id, cancel_reason)
            self._wakeups.wake(change.agent_id)

    def _probe_soon(self, agent: AttachedAgent) -> None:
        agent_id = agent.session.agent_id
        if agent_id not in self._probing:
            self._probing[agent_id] = probing = asyncio.create_task(self._probe(agent))
            probing.add_done_callback(lambda _: self._probing.pop(agent_id))

    async def _probe(self, agent: AttachedAgent) -> None:
        if not await agent.probe():
            agent.end(CloseReason.SILENT)

    def _agent_changed(self, change: AgentChanged, ours: bool) -> None:
        if change.connected:
            self._watches.agent_attached(change.agent_id)
        agent = self._registry.get(change.agent_id)
        if agent is not None and not ours and change.connected and change.epoch == agent.session.epoch:
            # Another instance wants to attach elsewhere. Only that makes another replica announce our session.
            self._probe_soon(agent)
        if agent is not None and change.epoch > agent.session.epoch:
            # Epochs start again when Valkey is emptied, so the event may be older than the session. A claim asks the
            # store, and ends the session if there is a newer one.
            self._wakeups.wake(change.agent_id, control=True)


def _log_late(report: LateReport) -> None:
    logger.info(
        "a report came after the end of its command, keeping it beside the result",
        command_id=report.command_id,
        agent_id=report.agent_id,
        status=report.status.value,
    )


def log_transitions(batch: EventBatch) -> None:
    """Log each changed command. Above the debug level this costs one check."""
    if not logger.is_enabled_for(logging.DEBUG):
        return
    for event in batch.events:
        if isinstance(event, CommandChanged):
            logger.debug(
                "command changed",
                kind=event.kind.value,
                status=event.status.value,
                command_id=event.command_id,
                agent_id=event.agent_id,
                attempt=event.attempt,
                revision=event.revision,
                reason=event.reason.code,
            )
