"""Sends a snapshot or requested states, then every later change, without a gap.

The order is always: subscribe the dashboard and hold its changes; read the store, which includes everything up to the
position noted before; send the states read; send the held changes. The ending of a command that will be read is left to
the read, which also returns it, and is sent after the output.
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
from distributor.errors import DistributorError, NotFound, ResourceExhausted
from distributor.model.command import CommandState
from distributor.model.listing import CommandFilter
from distributor.model.position import BEGINNING, order_of
from distributor.wire.documents import Document, agent_document, time_text

COMMANDS_PER_READ: Final = 50
CLOCK_SLACK_MS: Final = 1_000
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
        what, refusal = connect.subscribe, ""
        dashboard.hold()
        try:
            self._subscribe_commands(dashboard, what)
        except ResourceExhausted as error:
            what, refusal = Topics(), messages.error(error)
        until, position = self._hub.position, self._hub.delivered_until
        shown = await self._send_connected(dashboard, what, connect.resume, reason, position)
        if refusal:
            dashboard.send(refusal)
        if connect.resume and not reason:
            await self._replay(dashboard, connect.resume, until)
            self._send_held(dashboard, dashboard.release(), shown, delivered_until=until)
        else:
            self._send_held(dashboard, dashboard.release(), shown)
        await self._send_commands(dashboard, what)

    async def subscribe(self, dashboard: Dashboard, what: Topics) -> None:
        """Subscribe and send current states. Raises ResourceExhausted or Unavailable, then without any effect."""
        fresh = self._new_topics(dashboard, what)
        self._subscribe_commands(dashboard, what)
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
            dashboard.read_abandoned(_commands_by_id(what))
            raise

    async def follow_queued(self, dashboard: Dashboard, command_id: str) -> None:
        """Follow a command requested by a dashboard, from its first byte, even if the store is unavailable."""
        self._subscriptions.add_commands(dashboard, [command_id])
        try:
            await self._send_commands(dashboard, Topics(output={command_id: 0}))
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
        (change,) = await self._view.read([command_id])
        if change is not None and dashboard not in self._subscriptions.watchers_of_command(
            command_id, change.state.agent_id
        ):
            dashboard.send(change.status)

    def check_subscription_limit(self, dashboard: Dashboard) -> None:
        """Raise ResourceExhausted if `dashboard` is at its subscription limit."""
        self._subscriptions.check(dashboard, 1)

    def drop(self, dashboard: Dashboard) -> None:
        """Remove a disconnected dashboard."""
        self._pumps.drop(dashboard)
        self._subscriptions.drop(dashboard)

    # Steps

    async def _send_connected(
        self, dashboard: Dashboard, what: Topics, resume: str | None, reason: str, position: str
    ) -> Sequence[CommandState]:
        """Send `connected`, and a resync if resuming failed. Return the commands of the snapshot."""
        resumed = bool(resume) and not reason
        # Missed changes are replayed after this, so a resumed connection keeps its position for now.
        begin = resume if resume and resumed else position
        async with self._agents.lock:
            self._subscribe_agents(dashboard, what)
            agents = [agent_document(agent) for agent in await self._agents.snapshot()]
            page = NO_COMMANDS if resumed else await self._recent_commands(dashboard, position)
            dashboard.set_resume_position(begin)
            fields = self._connected_fields(dashboard, begin, resumed) | {"agents": agents}
            dashboard.send(messages.connected(fields if resume is not None else fields | {"commands": page.documents}))
            self._hub.send_backend_status(dashboard)
            if reason:
                self._metrics.resync(reason)
                dashboard.send(messages.resync(reason, begin, agents, page.documents))
        return page.states

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
        dashboard.expect_read(_commands_by_id(what))

    def _subscribe_agents(self, dashboard: Dashboard, what: Topics) -> None:
        self._subscriptions.add_agents(dashboard, what.agents)
        if what.all_agents:
            self._subscriptions.add_all_agents(dashboard)

    def _connected_fields(self, dashboard: Dashboard, position: str, resumed: bool) -> Document:
        identity = dashboard.identity
        return {
            "connectionId": dashboard.connection_id,
            "userId": identity.subject,
            "scopes": sorted(identity.scopes),
            "serverTime": time_text(int(time.time() * 1000)),
            "expireTime": time_text(int(identity.expires * 1000)),
            "resumed": resumed,
            "position": position,
        }

    async def _snapshot(self, dashboard: Dashboard, reason: str) -> None:
        position = self._hub.delivered_until
        shown: Sequence[CommandState] = ()
        dashboard.hold()
        try:
            async with self._agents.lock:
                agents = [agent_document(agent) for agent in await self._agents.snapshot()]
                page = await self._recent_commands(dashboard, position)
                shown = page.states
                dashboard.snapshot_sent()
                dashboard.send(messages.resync(reason, dashboard.resume_position(position), agents, page.documents))
            self._metrics.resync(reason)
        finally:
            self._send_held(dashboard, dashboard.release(), shown)

    async def _recent_commands(self, dashboard: Dashboard, position: str) -> CommandPage:
        page = await self._view.page(CommandFilter())
        for state in page.states:
            self._hub.note_sent(state, page.away_since_ms.get(state.agent_id, 0))
            if _event_may_follow(state, position):
                dashboard.ignore_until_ended(state.command_id, result_sent=False)
        return page

    async def _replay(self, dashboard: Dashboard, after: str, until: str) -> None:
        async for change in self._hub.replay(after, until, dashboard):
            await dashboard.wait_for_room()
            if not change.state.status.terminal or not dashboard.defer_ending(change.state.command_id):
                dashboard.send_change(change, past=True)

    def _send_held(
        self,
        dashboard: Dashboard,
        held: Sequence[Change],
        shown: Sequence[CommandState],
        delivered_until: str = BEGINNING,
    ) -> None:
        """Send the held changes, except those already sent and those older than the states `shown`."""
        newer = {state.command_id: state for state in shown}
        for change in held:
            was_shown = newer.get(change.state.command_id)
            if change.event and order_of(change.event) <= order_of(delivered_until):
                continue
            if was_shown is None or change.state.revision >= was_shown.revision:
                self._hub.deliver(dashboard, change)

    async def _send_commands(self, dashboard: Dashboard, what: Topics) -> None:
        command_ids = _commands_by_id(what)
        dashboard.expect_read(command_ids)
        try:
            for start in range(0, len(command_ids), COMMANDS_PER_READ):
                await dashboard.wait_for_room()
                await self._send_batch(dashboard, command_ids[start : start + COMMANDS_PER_READ], what)
        except DistributorError:
            dashboard.read_abandoned(command_ids)
            raise

    async def _send_batch(self, dashboard: Dashboard, command_ids: Sequence[str], what: Topics) -> None:
        dashboard.hold()
        dashboard.read_started(command_ids)
        for command_id in command_ids:
            if command_id in what.output:
                self._pumps.follow(dashboard, command_id, what.output[command_id])
        try:
            changes = await self._view.read(command_ids)
        except BaseException:
            self._send_held(dashboard, dashboard.release(), ())
            raise
        held = dashboard.release()
        for command_id, change in zip(command_ids, changes, strict=True):
            if change is None:
                self._reject_unknown(dashboard, command_id)
                continue
            if _event_may_follow(change.state, self._hub.position):
                dashboard.ignore_until_ended(command_id, result_sent=True)
            self._hub.deliver(dashboard, change)
        dashboard.read_finished(command_ids)
        self._send_held(dashboard, held, [change.state for change in changes if change is not None])

    def _reject_unknown(self, dashboard: Dashboard, command_id: str) -> None:
        self._subscriptions.remove_commands(dashboard, [command_id])
        self._pumps.unfollow(dashboard, command_id)
        refusal = NotFound(
            f"command {command_id} does not exist or is no longer stored", field="commandId", reason="UNKNOWN_COMMAND"
        )
        dashboard.send(messages.error(refusal, command_id=command_id))


def _commands_by_id(what: Topics) -> list[str]:
    """Commands subscribed by id, whose states are sent first."""
    return list(dict.fromkeys([*what.commands, *what.output]))


def _event_may_follow(state: CommandState, position: str) -> bool:
    """Whether the event of an ending may still be pending."""
    milliseconds, _ = order_of(position)
    return state.status.terminal and state.receipts.finished_ms >= milliseconds - CLOCK_SLACK_MS
