"""Reads commands and agents from the store as documents and changes for dashboards."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Final, NamedTuple

from distributor.bridge import messages
from distributor.bridge.dashboard import Change
from distributor.dispatch.ports import CommandReader
from distributor.dispatch.visibility import Visibility
from distributor.identity.caller import Caller
from distributor.model.agent import AgentInfo, AgentPresence
from distributor.model.command import CommandResult, CommandState
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from distributor.wire.documents import Document, agent_document, result_document, state_document

MAX_SNAPSHOT_AGENTS: Final = 1_000
MAX_SNAPSHOT_AGENT_BYTES: Final = 393_216
RECENT_COMMANDS: Final = 50
AGENTS_PER_READ: Final = 200


class CommandPage(NamedTuple):
    """A page of commands, newest first, as values and documents. `cursor` is empty on the last page.

    `away_since_ms` maps offline agents with running commands in the page to when they went offline.
    """

    states: Sequence[CommandState]
    documents: Sequence[Document]
    cursor: str
    away_since_ms: Mapping[str, int]


class StoreView:
    """Documents and changes from a CommandReader. Raises Unavailable while Valkey is unavailable."""

    def __init__(self, reader: CommandReader) -> None:
        self._reader = reader
        self._visibility = Visibility(reader)

    async def labels(self, agent_ids: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
        """The labels of agents, by id."""
        return dict(zip(agent_ids, await self._reader.labels(agent_ids), strict=True)) if agent_ids else {}

    async def visible_agents(self, caller: Caller) -> list[AgentInfo]:
        """Read all agents that a caller may see."""
        return self._visibility.agents(caller, await self.agents(await self.agent_ids()))

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo]:
        """Read agents; unknown ones are omitted."""
        found: list[AgentInfo] = []
        for start in range(0, len(agent_ids), AGENTS_PER_READ):
            infos = await self._reader.agents(agent_ids[start : start + AGENTS_PER_READ])
            found += [info for info in infos if info is not None]
        return found

    async def agent_ids(self) -> list[str]:
        """The ids of all agents."""
        ids: list[str] = []
        while page := await self._reader.agent_ids(ids[-1] if ids else "", AGENTS_PER_READ):
            ids += page
        return ids

    async def snapshot_agents(self, caller: Caller) -> list[AgentInfo]:
        """As many agents that a caller may see as fit into one message."""
        found: list[AgentInfo] = []
        size = 0
        agent_ids = await self._visibility.known_agent_ids(caller, "", MAX_SNAPSHOT_AGENTS)
        for agent in self._visibility.agents(caller, await self.agents(agent_ids)):
            size += messages.bytes_of(agent_document(agent))
            if size > MAX_SNAPSHOT_AGENT_BYTES:
                break
            found.append(agent)
        return found

    async def page(
        self, caller: Caller, query: CommandFilter, cursor: str = "", size: int = RECENT_COMMANDS
    ) -> CommandPage:
        """One page of the commands that a caller may see."""
        states, next_cursor = await self._visibility.page(caller, query, cursor, size)
        results = await self.results(states)
        away = await self._away(states)
        documents = [
            dashboard_command(state, results.get(state.command_id), away.get(state.agent_id, 0)) for state in states
        ]
        return CommandPage(states, documents, next_cursor, away)

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        """Current states of commands, whoever may see them; None for an unknown one."""
        return await self._reader.states(command_ids)

    async def seen(self, caller: Caller, states: Sequence[CommandState | None]) -> list[CommandState | None]:
        """The states in order, None for those that a caller may not see."""
        return await self._visibility.commands(caller, states)

    async def results(self, states: Sequence[CommandState]) -> dict[str, CommandResult]:
        """The results of ended commands, by id."""
        ended = [state.command_id for state in states if state.status.terminal]
        found = await self._reader.results(ended)
        return {command_id: result for command_id, result in zip(ended, found, strict=True) if result is not None}

    async def read(self, caller: Caller, command_ids: Sequence[str]) -> list[Change | None]:
        """Read current states of commands; None for an unknown one, and for one that the caller may not see."""
        states = await self.seen(caller, await self._reader.states(command_ids))
        known = [state for state in states if state is not None]
        results, away = await self.results(known), await self._away(known)
        return [
            None
            if state is None
            else change_of(state, results.get(state.command_id), agent_away_since_ms=away.get(state.agent_id, 0))
            for state in states
        ]

    async def _away(self, states: Iterable[CommandState]) -> dict[str, int]:
        """When offline agents assigned these commands went offline, in ms, by agent id."""
        agent_ids = {state.agent_id for state in states if state.status is CommandStatus.ASSIGNED}
        agents = await self.agents(sorted(agent_ids))
        return {agent.agent_id: agent.away_since_ms for agent in agents if agent.away_since_ms}


def change_of(
    state: CommandState,
    result: CommandResult | None,
    position: str = "",
    event: str = "",
    agent_away_since_ms: int = 0,
) -> Change:
    """A change with its messages."""
    command = dashboard_command(state, result, agent_away_since_ms)
    return Change(
        position,
        state,
        messages.command_status(command, position),
        messages.command_result(result_document(result)) if result is not None else "",
        event,
        result.output_bytes if result is not None else 0,
        agent_away_since_ms,
        partial(messages.command_status, command),
    )


def dashboard_command(state: CommandState, result: CommandResult | None, agent_away_since_ms: int = 0) -> Document:
    """The document of a command for dashboards, with the exit code of its result.

    `agent_away_since_ms` is 0 while the agent is connected; ignored unless the command is assigned.
    """
    if agent_away_since_ms and state.status is CommandStatus.ASSIGNED:
        state = state._replace(agent=AgentPresence(True, False, agent_away_since_ms))
    return state_document(state) | {"exitCode": result.exit_code if result is not None else None}
