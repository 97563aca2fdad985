"""Reads the event stream once per bridge and delivers each change to its subscribers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence, Set
from typing import Final, NamedTuple, TypeAlias

from distributor.bridge import messages
from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.backend_status import BackendStatus
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.output_access import OutputAccess
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.store_view import StoreView, change_of
from distributor.bridge.subscriptions import Subscriptions
from distributor.dispatch.ports import EventHistory, EventLog
from distributor.errors import DistributorError, Unavailable
from distributor.model.command import CommandState
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.event import AgentChanged, CommandChanged, EventBatch, OutputArrived, StopsChanged
from distributor.model.known_states import KnownStates
from distributor.model.labels import NO_LABELS
from distributor.model.position import is_position, milliseconds_of, order_of
from distributor.observability.logging import get_logger
from distributor.observability.outage import WAIT_AFTER_FAILURE_SECONDS, Outage

logger = get_logger()

Labels: TypeAlias = Mapping[str, Mapping[str, str]]
"""Labels of agents by their ids."""

MESSAGES_PER_SLICE: Final = 50
CATCH_UP_SECONDS: Final = 5.0


class EventSource(NamedTuple):
    """Sources of events: the live tail and the history."""

    log: EventLog
    history: EventHistory


class EventHub:
    """The event loop of a bridge. Events up to `delivered_until` have been queued for every subscriber."""

    def __init__(
        self,
        events: EventSource,
        view: StoreView,
        pumps: OutputPumps,
        agents: AgentWatch,
        metrics: BridgeMetrics,
        catch_up_seconds: float = CATCH_UP_SECONDS,
    ) -> None:
        """`catch_up_seconds` limits how long a resuming dashboard waits for this bridge to reach its position."""
        self._log, self._history = events
        self._view = view
        self._pumps = pumps
        self._agents = agents
        self._metrics = metrics
        self._catch_up_seconds = catch_up_seconds
        self._known = KnownStates()
        self.backends = BackendStatus(self._send_backend_status)
        self.subscriptions: Subscriptions[Dashboard] = agents.subscriptions
        self.access = OutputAccess(view, pumps, self.subscriptions)
        self.dashboards: set[Dashboard] = set()
        self.stops: Sequence[EmergencyStop] = ()
        """The emergency stops in force."""
        self.stops_changed = asyncio.Event()
        """Set when an emergency stop may have begun or ended; the waiter clears it."""
        self.position = ""
        """The current or last event; ahead of `delivered_until` during delivery."""
        self.delivered_until = ""
        self._advanced = asyncio.Event()
        self._outage = Outage("read events")

    async def catch_up(self) -> None:
        """Start at the newest event. Call before serving."""
        self.position = self.delivered_until = await self._log.last_position()

    async def run(self) -> None:
        """Deliver events until cancelled."""
        while True:
            try:
                await self._check_for_gap()
                self._outage.recovered()
                self.backends.valkey.succeeded()
                async for batch in self._log.tail(self.position):
                    if batch.missed:
                        self._resync_after_gap(batch.position)
                    else:
                        await self.relay(batch)
            except DistributorError as error:
                self._outage.failed(error)
                self.backends.valkey.failed(str(error))
                await asyncio.sleep(WAIT_AFTER_FAILURE_SECONDS)

    async def relay(self, batch: EventBatch) -> None:
        """Deliver one entry of the event stream."""
        self._metrics.events_lag(max(0.0, time.time() - milliseconds_of(batch.position) / 1000))
        changes = await self._changes(self.position, batch.position, self._route(batch), self._known)
        labels = await self._needed_labels(changes)
        attached = {one.agent_id for one in batch.events if isinstance(one, AgentChanged) and one.connected}
        if attached:
            await self.access.agents_attached(attached)
        self.position = batch.position
        for count, change in enumerate(changes, start=1):
            state = change.state
            for dashboard in list(self.subscriptions.watchers_of_command(state.command_id, state.agent_id)):
                if _permits(dashboard, state, labels):
                    self.deliver(dashboard, change)
            if count % MESSAGES_PER_SLICE == 0:
                # Let senders run, or a burst would fill the queues of dashboards that keep up.
                await asyncio.sleep(0)
        self._advance_to(batch.position)

    async def _needed_labels(self, changes: Iterable[Change]) -> Labels:
        """The labels of the agents of these changes, if the grants of any of their watchers name labels."""
        states = [change.state for change in changes]
        needed = {
            state.agent_id
            for state in states
            for dashboard in self.subscriptions.watchers_of_command(state.command_id, state.agent_id)
            if dashboard.caller.grants.need_labels
        }
        return await self._view.labels(sorted(needed)) if needed else {}

    def deliver(self, dashboard: Dashboard, change: Change) -> None:
        """Send a change to a dashboard, unless it holds its changes or was sent a newer state."""
        if dashboard.takes(change):
            self.note_sent(change.state, change.agent_away_since_ms, change.read_until)
            self.pass_on(dashboard, change)

    def pass_on(self, dashboard: Dashboard, change: Change) -> None:
        """Send a change to a dashboard, also ahead of held ones; an ending is sent after the command's output."""
        command_id = change.state.command_id
        if change.state.status.terminal:
            self.subscriptions.remove_commands(dashboard, [command_id])
            if self._pumps.end(dashboard, command_id, change):
                return
        dashboard.send_change(change)

    @property
    def running_agents(self) -> Set[str]:
        """Agents running a command that a dashboard shows."""
        return self._agents.running.agents

    def note_sent(self, state: CommandState, agent_away_since_ms: int, read_until: str) -> None:
        """Record that a dashboard shows this command; `agent_away_since_ms` is 0 if its agent is connected.

        `read_until` is the position before which no older state follows; empty if the state is of an event.
        """
        self._agents.running.note(state, agent_away_since_ms, read_until)

    async def last_position(self) -> str:
        """The end of the event stream now: states read before are not older than the events up to it."""
        return await self._log.last_position()

    async def replay(self, after: str, until: str, dashboard: Dashboard) -> AsyncIterator[Change]:
        """Yield the changes between two positions that match the current subscriptions of `dashboard`.

        Ends early, and requests a snapshot, if events were trimmed before they could be read.
        """
        # Not those of the live events: what is read here was not sent to other dashboards.
        known = KnownStates()
        while True:
            page = await self._history.between(after, until)
            # Check after reading: events trimmed from now on are in the page.
            if not await self._history.reaches(after):
                dashboard.resync("trimmed")
                return
            if not page:
                return
            for batch in page:
                watched = [
                    event
                    for event in batch.events
                    if isinstance(event, CommandChanged) and dashboard in self._audience(event)
                ]
                changes = await self._changes(after, batch.position, watched, known)
                seen = await self._view.seen(dashboard.caller, [change.state for change in changes])
                for change, state in zip(changes, seen, strict=True):
                    if state is not None:
                        yield change
                after = batch.position

    async def resync_reason(self, position: str) -> str:
        """The resync reason if a dashboard cannot resume from a position; empty if it can.

        Waits if this bridge is slightly behind the position. Raises Unavailable if it does not catch up within
        `catch_up_seconds`.
        """
        if not is_position(position):
            return "malformed"
        if order_of(position) > order_of(self.delivered_until):
            if order_of(position) > order_of(await self._log.last_position()):
                return "unknown"
            await self._wait_for_position(position)
        return "" if await self._history.reaches(position) else "trimmed"

    async def _wait_for_position(self, position: str) -> None:
        try:
            async with asyncio.timeout(self._catch_up_seconds):
                while order_of(self.delivered_until) < order_of(position):
                    self._advanced.clear()
                    await self._advanced.wait()
        except TimeoutError as error:
            raise Unavailable("this bridge is behind: it has not yet read the events up to that position") from error

    def resync_all(self, reason: str) -> None:
        """Request a snapshot for every dashboard."""
        for dashboard in self.dashboards:
            dashboard.resync(reason)

    def send_backend_status(self, dashboard: Dashboard) -> None:
        """Send whether the server and Valkey are available."""
        server, valkey = self.backends.server, self.backends.valkey
        status = messages.bridge_status(server.availability, valkey.availability, self.backends.insecure)
        dashboard.send_bridge(status)

    def set_stops(self, stops: Sequence[EmergencyStop]) -> None:
        """Note the emergency stops in force; send them to every dashboard if they have changed."""
        if stops != self.stops:
            self.stops = stops
            for dashboard in self.dashboards:
                self.send_stops(dashboard)

    def send_stops(self, dashboard: Dashboard) -> None:
        """Send the emergency stops in force. Users of some agents see only those for all: selectors name others."""
        everything = dashboard.caller.grants.everything
        shown = [stop for stop in self.stops if everything or stop.scope.all]
        dashboard.send_bridge(messages.emergency_stops(shown))

    def _send_backend_status(self) -> None:
        for dashboard in self.dashboards:
            self.send_backend_status(dashboard)

    def _route(self, batch: EventBatch) -> list[CommandChanged]:
        """Route events to the agent watch and output pumps. Return the changes of watched commands."""
        watched: list[CommandChanged] = []
        for event in batch.events:
            match event:
                case OutputArrived():
                    self._pumps.notify(event.command_id)
                case AgentChanged():
                    self._agents.schedule(event.agent_id)
                case CommandChanged():
                    self._agents.schedule(event.agent_id)
                    if self._audience(event):
                        watched.append(event)
                case StopsChanged():
                    self.stops_changed.set()
                case _:
                    pass
        return watched

    def _audience(self, change: CommandChanged) -> Iterable[Dashboard]:
        return self.subscriptions.watchers_of_command(change.command_id, change.agent_id)

    async def _changes(
        self, before: str, position: str, events: Sequence[CommandChanged], known: KnownStates
    ) -> list[Change]:
        states = await self._states([event for event in events if not known.is_superseded(event)], known)
        ended = [state for state, _ in states if state.status.terminal]
        results = await self._view.results(ended) if ended else {}
        # A dashboard with part of an entry must not resume after it: only the last change has its position.
        return [
            change_of(
                state,
                results.get(state.command_id),
                position if place == len(states) else before,
                position,
                self._agents.away_since(state.agent_id),
            )._replace(read_until=read_until)
            for place, (state, read_until) in enumerate(states, start=1)
        ]

    async def _states(self, events: Sequence[CommandChanged], known: KnownStates) -> list[tuple[CommandState, str]]:
        """The state after each change, and the end of the event stream after the read if it had to be read.

        A change is read if those before it are not known. The state may then be newer than the change.
        """
        states = [known.after(event) for event in events]
        unknown = [event.command_id for event, state in zip(events, states, strict=True) if state is None]
        if not unknown:
            return [(state, "") for state in states if state is not None]
        read = dict(zip(unknown, await self._view.states(unknown), strict=True))
        read_until = await self.last_position()
        for state in read.values():
            if state is not None:
                known.learn(state)
        found = [
            (state, "") if state is not None else (read[event.command_id], read_until)
            for event, state in zip(events, states, strict=True)
        ]
        return [(state, until) for state, until in found if state is not None]

    async def _check_for_gap(self) -> None:
        """Detect events trimmed or a store emptied during an outage, which the tail would not report."""
        last = await self._log.last_position()
        if order_of(self.position) > order_of(last) or not await self._history.reaches(self.position):
            self._resync_after_gap(last)

    def _resync_after_gap(self, position: str) -> None:
        logger.warning("missed events, sending snapshots", dashboards=len(self.dashboards))
        self._advance_to(position)
        self.resync_all("interrupted")

    def _advance_to(self, position: str) -> None:
        self.position = self.delivered_until = position
        self._advanced.set()


def _permits(dashboard: Dashboard, state: CommandState, labels: Labels) -> bool:
    return dashboard.caller.grants.permit(state.agent_id, labels.get(state.agent_id, NO_LABELS), state.type)
