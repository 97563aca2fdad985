"""An in-memory implementation of the read-only ports of the store."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from distributor.dispatch.ports import CommandReader
from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import CommandResult, CommandState
from distributor.model.listing import CommandDetails, CommandFilter, Page, QueueDepth
from tests.support.memory_stores import NOBODY


class MemoryReader:
    """The CommandReader port: `known` has the states, of all else there is nothing."""

    def __init__(self) -> None:
        self.known: dict[str, CommandState] = {}

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        return [self.known.get(command_id) for command_id in command_ids]

    async def details(self, command_id: str) -> CommandDetails | None:
        state = self.known.get(command_id)
        return None if state is None else CommandDetails(state, None, 0, NOBODY)

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        return [None] * len(command_ids)

    async def queued_under(self, requests: Sequence[tuple[str, str]]) -> list[str | None]:
        return [None] * len(requests)

    async def page(self, query: CommandFilter, cursor: str, size: int) -> Page[CommandState]:
        return Page([], "")

    async def presences(self, agent_ids: Sequence[str]) -> list[AgentPresence]:
        return [NOBODY] * len(agent_ids)

    async def listed(self, query: CommandFilter, cursor: str, size: int) -> tuple[list[tuple[CommandState, str]], str]:
        page = await self.page(query, cursor, size)
        return [(state, "") for state in page.items], page.next_page_token

    async def labels(self, agent_ids: Sequence[str]) -> list[Mapping[str, str]]:
        return [{} for _ in agent_ids]

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo | None]:
        return [None] * len(agent_ids)

    async def agent_ids(self, after: str, limit: int) -> list[str]:
        return []

    async def depth(self) -> QueueDepth:
        return QueueDepth({}, 0)


# What mypy holds it to.
_command_reader: type[CommandReader] = MemoryReader
