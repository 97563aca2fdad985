"""How a dashboard is told how things are, and from then on what changes: no change between the two is lost.

The order is always the same. The dashboard is subscribed and held, so that changes wait; then the store is read, which
has at least everything up to the position noted before; then what was read is told, and after it what waited. How a
command ended does not wait where that command is going to be read: what is read has it, and is told after its output.
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
from distributor.bridge.requests import Connect, Wanted
from distributor.bridge.store_view import CommandPage, StoreView
from distributor.errors import DistributorError, NotFound, ResourceExhausted
from distributor.model.command import CommandState, precedes
from distributor.model.listing import CommandQuery
from distributor.model.position import BEGINNING, order_of
from distributor.wire.documents import Document, agent_document, time_text

TOLD_AT_ONCE: Final = 50
CLOCK_SLACK_MS: Final = 1_000
NO_COMMANDS: Final = CommandPage((), (), "", {})


class SnapshotSync:
    """Subscribes dashboards and tells them how things are. One call at a time for each dashboard."""

    def __init__(
        self, hub: EventHub, view: StoreView, pumps: OutputPumps, agents: AgentWatch, metrics: BridgeMetrics
    ) -> None:
        self._hub = hub
        self._view = view
        self._pumps = pumps
        self._agents = agents
        self._metrics = metrics
        self._subscriptions = hub.subscriptions

    async def begin(self, dashboard: Dashboard, connect: Connect) -> None:
        """Answer dashboard:connect. Raises Unavailable when the store is away, or this bridge is behind."""
        dashboard.on_room = lambda: self._pumps.roomy(dashboard)
        reason = await self._hub.why_not_resume(connect.resume) if connect.resume is not None else ""
        what, refusal = connect.subscribe, ""
        dashboard.hold()
        try:
            self._subscribe_commands(dashboard, what)
        except ResourceExhausted as error:
            what, refusal = Wanted(), messages.error(error)
        until, position = self._hub.position, self._hub.told_up_to
        shown = await self._introduce(dashboard, what, connect.resume, reason, position)
        if refusal:
            dashboard.tell(refusal)
        if connect.resume and not reason:
            await self._replay(dashboard, connect.resume, until)
            self._tell_held(dashboard, dashboard.release(), shown, told_up_to=until)
        else:
            self._tell_held(dashboard, dashboard.release(), shown)
        await self._tell_commands(dashboard, what)

    async def subscribe(self, dashboard: Dashboard, what: Wanted) -> None:
        """Subscribe and tell how things are. Subscribes to nothing where it raises: ResourceExhausted, Unavailable."""
        fresh = self._not_yet(dashboard, what)
        self._subscribe_commands(dashboard, what)
        try:
            self._subscribe_agents(dashboard, what)
            if what.all_agents or what.all_commands:
                await self._snapshot(dashboard, "subscribed")
            for start in range(0, len(what.agents), TOLD_AT_ONCE):
                await dashboard.room()
                await self._agents.tell_now(dashboard, what.agents[start : start + TOLD_AT_ONCE])
            await self._tell_commands(dashboard, what)
        except DistributorError:
            self.unsubscribe(dashboard, fresh)
            dashboard.not_read(_named(what))
            raise

    async def queued(self, dashboard: Dashboard, command_id: str) -> None:
        """Tell of a command that `dashboard` requested: from its first byte, also where the store is away just now."""
        self._subscriptions.add_commands(dashboard, [command_id])
        try:
            await self._tell_commands(dashboard, Wanted(output={command_id: 0}))
        except DistributorError:
            dashboard.resync("interrupted")

    def unsubscribe(self, dashboard: Dashboard, what: Wanted) -> None:
        """End subscriptions; those that there are not are ignored."""
        for command_id in (*what.output, *what.commands):
            self._pumps.unfollow(dashboard, command_id)
        self._subscriptions.remove_commands(dashboard, what.commands)
        self._subscriptions.remove_commands_of(dashboard, what.commands_of)
        self._subscriptions.remove_agents(dashboard, what.agents)
        if what.all_agents:
            self._subscriptions.remove_all_agents(dashboard)
        if what.all_commands:
            self._subscriptions.remove_all_commands(dashboard)

    async def anew(self, dashboard: Dashboard, reason: str) -> None:
        """Tell everything anew."""
        await self._snapshot(dashboard, reason)
        await self._tell_commands(dashboard, Wanted(commands=tuple(self._subscriptions.commands(dashboard))))

    def names(self, dashboard: Dashboard, command_id: str) -> bool:
        """Whether `dashboard` is subscribed to this very command: it will be told how it ends, or is just then."""
        return command_id in self._subscriptions.commands(dashboard)

    async def tell_unless_subscribed(self, dashboard: Dashboard, command_id: str) -> None:
        """Tell how a command is now to who would not hear of it otherwise."""
        (change,) = await self._view.read([command_id])
        if change is not None and dashboard not in self._subscriptions.of_command(command_id, change.state.agent_id):
            dashboard.tell(change.status)

    def check_room_for_one(self, dashboard: Dashboard) -> None:
        """Raise ResourceExhausted unless `dashboard` may subscribe to one more command."""
        self._subscriptions.check(dashboard, 1)

    def drop(self, dashboard: Dashboard) -> None:
        """Forget everything about `dashboard`."""
        self._pumps.drop(dashboard)
        self._subscriptions.drop(dashboard)

    # The parts

    async def _introduce(
        self, dashboard: Dashboard, what: Wanted, resume: str | None, reason: str, position: str
    ) -> Sequence[CommandState]:
        """Send `connected`, and a resync where there is a reason not to resume; returns the commands shown."""
        resumed = bool(resume) and not reason
        # What a resumed connection missed is yet to come, so for now it is where it was.
        begin = resume if resume and resumed else position
        async with self._agents.lock:
            self._subscribe_agents(dashboard, what)
            agents = [agent_document(agent) for agent in await self._agents.shown()]
            page = NO_COMMANDS if resumed else await self._recent(dashboard, position)
            dashboard.begin_at(begin)
            fields = self._introduction(dashboard, begin, resumed) | {"agents": agents}
            dashboard.tell(messages.connected(fields if resume is not None else fields | {"commands": page.documents}))
            self._hub.send_backend_status(dashboard)
            if reason:
                self._metrics.resync(reason)
                dashboard.tell(messages.resync(reason, begin, agents, page.documents))
        return page.states

    def _not_yet(self, dashboard: Dashboard, what: Wanted) -> Wanted:
        """The part of `what` to which `dashboard` is not subscribed."""
        held = self._subscriptions
        return Wanted(
            agents=tuple(set(what.agents) - held.named_agents(dashboard)),
            all_agents=what.all_agents and dashboard not in held.of_all_agents,
            commands=tuple(set(_named(what)) - held.commands(dashboard)),
            all_commands=what.all_commands and dashboard not in held.of_all_commands,
            commands_of=tuple(set(what.commands_of) - held.commands_of(dashboard)),
            output={name: 0 for name in what.output if not self._pumps.follows(dashboard, name)},
        )

    def _subscribe_commands(self, dashboard: Dashboard, what: Wanted) -> None:
        subscriptions = self._subscriptions
        fresh = set(_named(what)) - subscriptions.commands(dashboard)
        subscriptions.check(dashboard, len(fresh) + len(what.commands_of) + len(what.agents))
        subscriptions.add_commands(dashboard, fresh)
        subscriptions.add_commands_of(dashboard, what.commands_of)
        if what.all_commands:
            subscriptions.add_all_commands(dashboard)
        dashboard.to_be_read(_named(what))

    def _subscribe_agents(self, dashboard: Dashboard, what: Wanted) -> None:
        self._subscriptions.add_agents(dashboard, what.agents)
        if what.all_agents:
            self._subscriptions.add_all_agents(dashboard)

    def _introduction(self, dashboard: Dashboard, position: str, resumed: bool) -> Document:
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
        position = self._hub.told_up_to
        shown: Sequence[CommandState] = ()
        dashboard.hold()
        try:
            async with self._agents.lock:
                agents = [agent_document(agent) for agent in await self._agents.shown()]
                page = await self._recent(dashboard, position)
                shown = page.states
                dashboard.told_anew()
                dashboard.tell(messages.resync(reason, dashboard.resumable(position), agents, page.documents))
            self._metrics.resync(reason)
        finally:
            self._tell_held(dashboard, dashboard.release(), shown)

    async def _recent(self, dashboard: Dashboard, position: str) -> CommandPage:
        page = await self._view.page(CommandQuery())
        for state in page.states:
            self._hub.note_sent(state, page.away_since_ms.get(state.agent_id, 0))
            if _may_be_told_again(state, position):
                dashboard.ended_already(state.command_id, result_told=False)
        return page

    async def _replay(self, dashboard: Dashboard, after: str, until: str) -> None:
        async for change in self._hub.missed(after, until, dashboard):
            await dashboard.room()
            if not change.state.status.terminal or not dashboard.leaves_ending(change.state.command_id):
                dashboard.tell_change(change, past=True)

    def _tell_held(
        self, dashboard: Dashboard, held: Sequence[Change], shown: Sequence[CommandState], told_up_to: str = BEGINNING
    ) -> None:
        """Tell what waited, but for what was told and what is older than the states `shown` meanwhile."""
        newer = {state.command_id: state for state in shown}
        for change in held:
            was_shown = newer.get(change.state.command_id)
            if change.event and order_of(change.event) <= order_of(told_up_to):
                continue
            if was_shown is None or not precedes(change.state, was_shown):
                self._hub.tell(dashboard, change)

    async def _tell_commands(self, dashboard: Dashboard, what: Wanted) -> None:
        command_ids = _named(what)
        dashboard.to_be_read(command_ids)
        try:
            for start in range(0, len(command_ids), TOLD_AT_ONCE):
                await dashboard.room()
                await self._tell_some(dashboard, command_ids[start : start + TOLD_AT_ONCE], what)
        except DistributorError:
            dashboard.not_read(command_ids)
            raise

    async def _tell_some(self, dashboard: Dashboard, command_ids: Sequence[str], what: Wanted) -> None:
        dashboard.hold()
        dashboard.being_read(command_ids)
        for command_id in command_ids:
            if command_id in what.output:
                self._pumps.follow(dashboard, command_id, what.output[command_id])
        try:
            changes = await self._view.read(command_ids)
        except BaseException:
            self._tell_held(dashboard, dashboard.release(), ())
            raise
        held = dashboard.release()
        for command_id, change in zip(command_ids, changes, strict=True):
            if change is None:
                self._unknown(dashboard, command_id)
                continue
            if _may_be_told_again(change.state, self._hub.position):
                dashboard.ended_already(command_id, result_told=True)
            self._hub.tell(dashboard, change)
        dashboard.was_read(command_ids)
        self._tell_held(dashboard, held, [change.state for change in changes if change is not None])

    def _unknown(self, dashboard: Dashboard, command_id: str) -> None:
        self._subscriptions.remove_commands(dashboard, [command_id])
        self._pumps.unfollow(dashboard, command_id)
        refusal = NotFound(
            f"there is no command {command_id}, or no longer", field="commandId", reason="UNKNOWN_COMMAND"
        )
        dashboard.tell(messages.error(refusal, command_id=command_id))


def _named(what: Wanted) -> list[str]:
    """The commands that are told one by one, how they are first of all."""
    return list(dict.fromkeys([*what.commands, *what.output]))


def _may_be_told_again(state: CommandState, position: str) -> bool:
    """Whether the event that says how a command ended may be yet to come."""
    milliseconds, _ = order_of(position)
    return state.status.terminal and state.receipts.finished_ms >= milliseconds - CLOCK_SLACK_MS
