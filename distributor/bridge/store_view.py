"""What the store knows, in the shape in which dashboards see it. Reads only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from distributor.bridge import messages
from distributor.bridge.dashboard import Change
from distributor.bridge.documents import Document, agent_document, command_document, result_document
from distributor.dispatch.ports import CommandReader
from distributor.model.command import CommandResult, CommandState
from distributor.model.listing import CommandQuery

MAX_AGENTS_SHOWN: Final = 1_000
MAX_AGENTS_BYTES: Final = 393_216
RECENT_COMMANDS: Final = 50
AGENTS_IN_A_READ: Final = 200


class CommandPage(NamedTuple):
    """Commands, newest first: as values and as documents. `cursor` is empty at the end."""

    states: Sequence[CommandState]
    documents: Sequence[Document]
    cursor: str


class StoreView:
    """Documents and changes from a CommandReader. Raises Unavailable when Valkey is away."""

    def __init__(self, reader: CommandReader) -> None:
        self._reader = reader

    async def agents(self, agent_ids: Sequence[str]) -> list[Document]:
        """These agents; those that are not known are left out."""
        found: list[Document] = []
        for start in range(0, len(agent_ids), AGENTS_IN_A_READ):
            infos = await self._reader.agents(agent_ids[start : start + AGENTS_IN_A_READ])
            found += [agent_document(info) for info in infos if info is not None]
        return found

    async def agent_ids(self) -> list[str]:
        """All agents."""
        ids: list[str] = []
        while page := await self._reader.agent_ids(ids[-1] if ids else "", AGENTS_IN_A_READ):
            ids += page
        return ids

    async def shown_agents(self) -> list[Document]:
        """As many of the agents as go into one message."""
        found: list[Document] = []
        size = 0
        for agent in await self.agents((await self.agent_ids())[:MAX_AGENTS_SHOWN]):
            size += messages.bytes_of(agent)
            if size > MAX_AGENTS_BYTES:
                break
            found.append(agent)
        return found

    async def page(self, query: CommandQuery, cursor: str = "", size: int = RECENT_COMMANDS) -> CommandPage:
        """One page of commands."""
        states, next_cursor = await self._reader.page(query, cursor, size)
        results = await self.results(states)
        return CommandPage(
            states, [command_document(s, _exit_code(results.get(s.command_id))) for s in states], next_cursor
        )

    async def results(self, states: Sequence[CommandState]) -> dict[str, CommandResult]:
        """The results of those of the commands that have ended."""
        ended = [state.command_id for state in states if state.status.terminal]
        found = await self._reader.results(ended)
        return {command_id: result for command_id, result in zip(ended, found, strict=True) if result is not None}

    async def read(self, command_ids: Sequence[str]) -> list[Change | None]:
        """How commands are now; None for one that is not known."""
        states = await self._reader.states(command_ids)
        results = await self.results([state for state in states if state is not None])
        return [change_of(state, results.get(state.command_id)) if state is not None else None for state in states]


def change_of(state: CommandState, result: CommandResult | None, position: str = "", event: str = "") -> Change:
    """A state as it is told."""
    status = messages.command_status(command_document(state, _exit_code(result)), position)
    if result is None:
        return Change(position, state, status, event=event)
    return Change(position, state, status, messages.command_result(result_document(result)), event, result.output_bytes)


def _exit_code(result: CommandResult | None) -> int | None:
    return result.exit_code if result is not None else None
