"""What a caller may see: what its grants exclude does not exist for it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from distributor.dispatch.ports import CommandReader
from distributor.errors import PermissionDenied
from distributor.identity.caller import Caller
from distributor.model.agent import AgentInfo
from distributor.model.command import CommandState
from distributor.model.labels import NO_LABELS
from distributor.model.listing import CommandFilter, Page
from distributor.model.queueing import NewCommand
from distributor.wire.limits import MAX_PAGE

MAX_PAGES_READ: Final = 20
"""How many pages of 1,000 are read for one page of what a caller may see."""
_NO_AGENTS: Final[Mapping[str, Mapping[str, str]]] = {}


class Visibility:
    """Applies the grants of callers. Reads labels of agents only for callers whose grants name labels."""

    def __init__(self, reader: CommandReader) -> None:
        self._reader = reader

    async def commands(self, caller: Caller, states: Sequence[CommandState | None]) -> list[CommandState | None]:
        """The states in order, None for those that the caller may not see.

        Costs the same for a command that does not exist as for a hidden one, so that timing reveals nothing.
        """
        grants = caller.grants
        if grants.everything:
            return list(states)
        labels = await self._labels(caller, [state.agent_id if state is not None else "" for state in states])
        return [
            state
            if state is not None and grants.permit(state.agent_id, labels.get(state.agent_id, NO_LABELS), state.type)
            else None
            for state in states
        ]

    async def visible(self, caller: Caller, states: Sequence[CommandState]) -> list[CommandState]:
        """Those of the states that the caller may see."""
        return [state for state in await self.commands(caller, states) if state is not None]

    async def agent_ids(self, caller: Caller, agent_ids: Sequence[str]) -> list[str]:
        """Those of the agents that the caller may see. Unknown ones count by their id."""
        labels = await self._labels(caller, agent_ids)
        permit = caller.grants.permit_agent
        return [agent_id for agent_id in agent_ids if permit(agent_id, labels.get(agent_id, NO_LABELS))]

    def agents(self, caller: Caller, agents: Iterable[AgentInfo]) -> list[AgentInfo]:
        """Those of the agents that the caller may see."""
        return [agent for agent in agents if caller.grants.permit_agent(agent.agent_id, agent.labels)]

    async def page(self, caller: Caller, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        """One page of what the caller may see. Reads past hidden ones, so that no short page reveals them.

        Raises InvalidArgument for an invalid cursor.
        """
        if caller.grants.everything:
            return await self._reader.page(query, cursor, size)
        if query.agent_id and not await self.agent_ids(caller, [query.agent_id]):
            return Page([], "")
        found: list[CommandState] = []
        for _ in range(MAX_PAGES_READ):
            listed, cursor = await self._reader.listed(query, cursor, MAX_PAGE)
            states = await self.commands(caller, [state for state, _ in listed])
            for state, (_, cursor_after) in zip(states, listed, strict=True):
                if state is not None:
                    found.append(state)
                if len(found) == size:
                    # The cursor of a visible one reveals no other.
                    return Page(found, cursor_after)
            if not cursor:
                break
        return Page(found, cursor)

    async def known_agent_ids(self, caller: Caller, after: str, limit: int) -> list[str]:
        """Up to `limit` ids of known agents after `after` that the caller may see, in order."""
        if caller.grants.everything:
            return await self._reader.agent_ids(after, limit)
        found: list[str] = []
        while True:
            some = await self._reader.agent_ids(after, MAX_PAGE)
            found += await self.agent_ids(caller, some)
            if len(some) < MAX_PAGE or len(found) >= limit:
                return found[:limit]
            after = some[-1]

    async def refused(self, caller: Caller, commands: Sequence[NewCommand]) -> dict[int, PermissionDenied]:
        """The error for each command that the caller may not send, by its place.

        Reveals nothing of the agent, neither that it exists nor its labels.
        """
        grants = caller.grants
        if grants.everything:
            return {}
        labels = await self._labels(caller, [new.agent_id for new in commands])
        return {
            place: _not_granted(caller, new)
            for place, new in enumerate(commands)
            if not grants.permit(new.agent_id, labels.get(new.agent_id, NO_LABELS), new.type)
        }

    async def _labels(self, caller: Caller, agent_ids: Iterable[str]) -> Mapping[str, Mapping[str, str]]:
        if not caller.grants.need_labels:
            return _NO_AGENTS
        ids = list(dict.fromkeys(agent_ids))
        return dict(zip(ids, await self._reader.labels(ids), strict=True)) if ids else _NO_AGENTS


def _not_granted(caller: Caller, new: NewCommand) -> PermissionDenied:
    return PermissionDenied(
        f"{caller} may not send commands of type '{new.type}' to agent '{new.agent_id}': no grant includes it",
        field="command.agent_id",
        reason="NOT_GRANTED",
    )
