"""Stops sending output to dashboards that may no longer see it, since its agent has attached with other labels."""

from __future__ import annotations

from collections.abc import Set

from distributor.bridge import messages
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import NotFound


class OutputAccess:
    """Concerns dashboards whose grants name labels. States are checked one by one when they are sent; output is not."""

    def __init__(self, view: StoreView, pumps: OutputPumps, subscriptions: Subscriptions[Dashboard]) -> None:
        self._view = view
        self._pumps = pumps
        self._subscriptions = subscriptions
        self._agents: dict[str, str] = {}
        """By command whose output such a dashboard follows: its agent, which never changes."""

    async def agents_attached(self, agent_ids: Set[str]) -> None:
        """Check what is followed of these agents. Raises Unavailable."""
        followed = self._pumps.followed_by(lambda dashboard: dashboard.caller.grants.need_labels)
        await self._learn({command_id for command_ids in followed.values() for command_id in command_ids})
        for dashboard, command_ids in followed.items():
            affected = [one for one in command_ids if self._agents.get(one) in agent_ids]
            if not affected:
                continue
            seen = await self._view.seen(dashboard.caller, await self._view.states(affected))
            for command_id, state in zip(affected, seen, strict=True):
                if state is None and self._pumps.follows(dashboard, command_id):
                    self.reject(dashboard, command_id)

    def reject(self, dashboard: Dashboard, command_id: str) -> None:
        """End the subscription of a command, and report the command as unknown."""
        self._subscriptions.remove_commands(dashboard, [command_id])
        self._pumps.unfollow(dashboard, command_id)
        refusal = NotFound(
            f"command {command_id} does not exist or is no longer stored", field="commandId", reason="UNKNOWN_COMMAND"
        )
        dashboard.send(messages.error(refusal, command_id=command_id))

    async def _learn(self, command_ids: Set[str]) -> None:
        self._agents = {one: agent_id for one, agent_id in self._agents.items() if one in command_ids}
        unknown = sorted(command_ids - self._agents.keys())
        states = await self._view.states(unknown) if unknown else []
        self._agents.update((state.command_id, state.agent_id) for state in states if state is not None)
