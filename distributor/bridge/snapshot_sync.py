"""Sends a snapshot or requested states, then every later change, without a gap.

The order is always: subscribe the dashboard and hold its changes; read the store; send the states read; send the held
changes. A state read may be ahead of the events, so the dashboard drops those with a lower revision (`ReadStates`).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Final

from distributor.bridge import messages
from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.event_hub import EventHub
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.requests import Connect, Topics
from distributor.bridge.store_view import CommandPage, StoreView
from distributor.errors import DistributorError, ResourceExhausted
from distributor.model.listing import CommandFilter
from distributor.model.position import BEGINNING, order_of
from distributor.wire.documents import Document, agent_document, time_text

COMMANDS_PER_READ: Final = 50
NO_COMMANDS: Final = CommandPage((), (), "", {})


class SnapshotSync:
    """Subscribes dashboards and sends them snapshots. One call at a time per dashboard."""

    def __init__(
        self, hub: EventHub, view: StoreView, pumps: OutputPumps, agents: AgentWatch, metrics: BridgeMetrics
    ) -> None:
        self._hub = hub
        self._view = view
        self._pumps = pumps
        self._agents = agents
        self._metrics = metrics
        self._subscriptions = hub.subscriptions

    async def connect(self, dashboard: Dashboard, connect: Connect) -> None:
        """Answer dashboard:connect. Raises Unavailable if the store is unavailable or this bridge is behind."""
        dashboard.on_room = lambda: self._pumps.resume(dashboard)
        reason = await self._hub.resync_reason(connect.resume) if connect.resume is not None else ""
        what, refusal = await self._visible(dashboard, connect.subscribe), ""
        dashboard.hold()
        try:
            self._subscribe_commands(dashboard, what)
        except ResourceExhausted as error:
            what, refusal = Topics(), messages.error(error)
        until, position = self._hub.position, self._hub.delivered_until
        await self._send_connected(dashboard, what, connect.resume, reason, position)
        if refusal:
            dashboard.send(refusal)
        self._follow_output(dashboard, what)
        if connect.resume and not reason:
            await self._replay(dashboard, connect.resume, until)
            self._send_held(dashboard, dashboard.release(), replayed_until=until)
        else:
            self._send_held(dashboard, dashboard.release())
        await self._send_commands(dashboard, what)

    async def subscribe(self, dashboard: Dashboard, what: Topics) -> None:
        """Subscribe and send current states. Raises ResourceExhausted or Unavailable, then without any effect."""
        what = await self._visible(dashboard, what)
        fresh = self._new_topics(dashboard, what)
        self._subscribe_commands(dashboard, what)
        self._follow_output(dashboard, what)
        try:
            self._subscribe_agents(dashboard, what)
            if what.all_agents or what.all_commands:
                await self._snapshot(dashboard, "subscribed")
            for start in range(0, len(what.agents), COMMANDS_PER_READ):
                await dashboard.wait_for_room()
                await self._agents.send_current(dashboard, what.agents[start : start + COMMANDS_PER_READ])
            await self._send_commands(dashboard, what)
        except DistributorError:
            self.unsubscribe(dashboard, fresh)
            raise

    async def follow_queued(self, dashboard: Dashboard, command_id: str) -> None:
        """Follow a command requested by a dashboard, from its first byte, even if the store is unavailable."""
        what = Topics(output={command_id: 0})
        self._subscriptions.add_commands(dashboard, [command_id])
        self._follow_output(dashboard, what)
        try:
            await self._send_commands(dashboard, what)
        except DistributorError:
            dashboard.resync("interrupted")

    def unsubscribe(self, dashboard: Dashboard, what: Topics) -> None:
        """End subscriptions; ignore those that do not exist."""
        for command_id in (*what.output, *what.commands):
            self._pumps.unfollow(dashboard, command_id)
        self._subscriptions.remove_commands(dashboard, what.commands)
        self._subscriptions.remove_commands_of(dashboard, what.commands_of)
        self._subscriptions.remove_agents(dashboard, what.agents)
        if what.all_agents:
            self._subscriptions.remove_all_agents(dashboard)
        if what.all_commands:
            self._subscriptions.remove_all_commands(dashboard)

    async def resync(self, dashboard: Dashboard, reason: str) -> None:
        """Send a snapshot and the states of commands subscribed by id."""
        await self._snapshot(dashboard, reason)
        await self._send_commands(dashboard, Topics(commands=tuple(self._subscriptions.commands(dashboard))))

    def is_subscribed_by_id(self, dashboard: Dashboard, command_id: str) -> bool:
        """Whether `dashboard` is subscribed to this command by id, so that its ending is sent."""
        return command_id in self._subscriptions.commands(dashboard)

    async def send_unless_subscribed(self, dashboard: Dashboard, command_id: str) -> None:
        """Send the state of a command unless a subscription covers it."""
        (change,) = await self._read(dashboard, [command_id])
        if change is not None and dashboard not in self._subscriptions.watchers_of_command(
            command_id, change.state.agent_id
        ):
            dashboard.reads.note(change.state, change.read_until, ending_due=True)
            dashboard.send(change.status)

    def check_subscription_limit(self, dashboard: Dashboard) -> None:
        """Raise ResourceExhausted if `dashboard` is at its subscription limit."""
        self._subscriptions.check(dashboard, 1)

    def drop(self, dashboard: Dashboard) -> None:
        """Remove a disconnected dashboard."""
        self._pumps.drop(dashboard)
        self._subscriptions.drop(dashboard)

    # Steps

    async def _visible(self, dashboard: Dashboard, what: Topics) -> Topics:
        """Subscribe to the state instead of the output of commands that are not to be seen, to be told as unknown."""
        if dashboard.caller.grants.everything or not what.output:
            return what
        command_ids = list(what.output)
        seen = await self._view.seen(dashboard.caller, await self._view.states(command_ids))
        shown = {state.command_id for state in seen if state is not None}
        hidden = tuple(command_id for command_id in command_ids if command_id not in shown)
        output = {command_id: offset for command_id, offset in what.output.items() if command_id in shown}
        return what._replace(commands=(*what.commands, *hidden), output=output)

    async def _send_connected(
        self, dashboard: Dashboard, what: Topics, resume: str | None, reason: str, position: str
    ) -> None:
        """Send `connected`, and a resync if resuming failed."""
        resumed = bool(resume) and not reason
        # Missed changes are replayed after this, so a resumed connection keeps its position for now.
        begin = resume if resume and resumed else position
        async with self._agents.lock:
            self._subscribe_agents(dashboard, what)
            agents = [agent_document(agent) for agent in await self._agents.snapshot(dashboard.caller)]
            page = NO_COMMANDS if resumed else await self._recent_commands(dashboard)
            dashboard.set_resume_position(begin)
            fields = self._connected_fields(dashboard, begin, resumed) | {"agents": agents}
            dashboard.send(messages.connected(fields if resume is not None else fields | {"commands": page.documents}))
            self._hub.send_backend_status(dashboard)
            if self._hub.stops:
                self._hub.send_stops(dashboard)
            if reason:
                self._metrics.resync(reason)
                dashboard.send(messages.resync(reason, begin, agents, page.documents))

    def _new_topics(self, dashboard: Dashboard, what: Topics) -> Topics:
        """The part of `what` that `dashboard` is not subscribed to."""
        held = self._subscriptions
        return Topics(
            agents=tuple(set(what.agents) - held.named_agents(dashboard)),
            all_agents=what.all_agents and dashboard not in held.of_all_agents,
            commands=tuple(set(_commands_by_id(what)) - held.commands(dashboard)),
            all_commands=what.all_commands and dashboard not in held.of_all_commands,
            commands_of=tuple(set(what.commands_of) - held.commands_of(dashboard)),
            output={name: 0 for name in what.output if not self._pumps.follows(dashboard, name)},
        )

    def _subscribe_commands(self, dashboard: Dashboard, what: Topics) -> None:
        subscriptions = self._subscriptions
        fresh = set(_commands_by_id(what)) - subscriptions.commands(dashboard)
        subscriptions.check(dashboard, len(fresh) + len(what.commands_of) + len(what.agents))
        subscriptions.add_commands(dashboard, fresh)
        subscriptions.add_commands_of(dashboard, what.commands_of)
        if what.all_commands:
            subscriptions.add_all_commands(dashboard)

    def _follow_output(self, dashboard: Dashboard, what: Topics) -> None:
        for command_id, offset in what.output.items():
            self._pumps.follow(dashboard, command_id, offset)

    def _subscribe_agents(self, dashboard: Dashboard, what: Topics) -> None:
        self._subscriptions.add_agents(dashboard, what.agents)
        if what.all_agents:
            self._subscriptions.add_all_agents(dashboard)

    def _connected_fields(self, dashboard: Dashboard, position: str, resumed: bool) -> Document:
        caller = dashboard.credential.caller
        return {
            "connectionId": dashboard.connection_id,
            "userId": caller.subject,
            "roles": sorted(caller.roles),
            "serverTime": time_text(int(time.time() * 1000)),
            "expireTime": time_text(int(caller.expires * 1000)) if caller.expires is not None else None,
            "resumed": resumed,
            "position": position,
        }

    async def _snapshot(self, dashboard: Dashboard, reason: str) -> None:
        position = self._hub.delivered_until
        dashboard.hold()
        try:
            async with self._agents.lock:
                agents = [agent_document(agent) for agent in await self._agents.snapshot(dashboard.caller)]
                page = await self._recent_commands(dashboard)
                dashboard.snapshot_sent()
                dashboard.send(messages.resync(reason, dashboard.resume_position(position), agents, page.documents))
            self._metrics.resync(reason)
        finally:
            self._send_held(dashboard, dashboard.release())

    async def _recent_commands(self, dashboard: Dashboard) -> CommandPage:
        page = await self._view.page(dashboard.caller, CommandFilter())
        read_until = await self._hub.last_position()
        for state in page.states:
            self._hub.note_sent(state, page.away_since_ms.get(state.agent_id, 0), read_until)
            # A snapshot has no results: an ending whose event is to come is sent with it.
            dashboard.reads.note(state, read_until, ending_due=True)
        return page

    async def _replay(self, dashboard: Dashboard, after: str, until: str) -> None:
        async for change in self._hub.replay(after, until, dashboard):
            await dashboard.wait_for_room()
            if dashboard.takes_ahead(change):
                self._hub.pass_on(dashboard, change)

    def _send_held(self, dashboard: Dashboard, held: Sequence[Change], replayed_until: str = BEGINNING) -> None:
        """Send the held changes, except those already replayed."""
        for change in held:
            if not change.event or order_of(change.event) > order_of(replayed_until):
                self._hub.deliver(dashboard, change)
        dashboard.reads.delivered(self._hub.delivered_until)

    async def _send_commands(self, dashboard: Dashboard, what: Topics) -> None:
        command_ids = _commands_by_id(what)
        for start in range(0, len(command_ids), COMMANDS_PER_READ):
            await dashboard.wait_for_room()
            await self._send_batch(dashboard, command_ids[start : start + COMMANDS_PER_READ], what)

    async def _send_batch(self, dashboard: Dashboard, command_ids: Sequence[str], what: Topics) -> None:
        dashboard.hold()
        try:
            changes = await self._read(dashboard, command_ids)
        except BaseException:
            self._send_held(dashboard, dashboard.release())
            raise
        held = dashboard.release()
        for command_id, change in zip(command_ids, changes, strict=True):
            if change is None:
                self._hub.access.reject(dashboard, command_id)
            elif self._is_due(dashboard, command_id, what):
                self._hub.deliver(dashboard, change)
        self._send_held(dashboard, held)

    async def _read(self, dashboard: Dashboard, command_ids: Sequence[str]) -> list[Change | None]:
        changes = await self._view.read(dashboard.caller, command_ids)
        read_until = await self._hub.last_position()
        return [change and change._replace(read_until=read_until) for change in changes]

    def _is_due(self, dashboard: Dashboard, command_id: str, what: Topics) -> bool:
        """Whether to send the state read of a command: not if its ending was sent since the subscription."""
        if command_id in what.output and not self._pumps.follows(dashboard, command_id):
            self._subscriptions.remove_commands(dashboard, [command_id])
        return self.is_subscribed_by_id(dashboard, command_id)


def _commands_by_id(what: Topics) -> list[str]:
    """Commands subscribed by id, whose states are sent first."""
    return list(dict.fromkeys([*what.commands, *what.output]))
