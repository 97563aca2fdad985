"""Tracks running commands shown on dashboards, to send them again when their agent disconnects or returns.

A lost agent causes no event, so no event reports that its running commands are affected.
"""

from __future__ import annotations

from collections.abc import Callable, Set
from typing import NamedTuple

from distributor.model.command import CommandState
from distributor.model.lifecycle import CommandStatus


class SentState(NamedTuple):
    """A state, the `away_since_ms` it was sent with, and `read_until` as in `Change`; empty if it is of an event."""

    state: CommandState
    away_since_ms: int
    read_until: str


class RunningCommands:
    """The newest state sent of each command, by agent. Bounded by the number of running commands."""

    def __init__(self) -> None:
        self._by_agent: dict[str, dict[str, SentState]] = {}

    @property
    def agents(self) -> Set[str]:
        """Agents with tracked commands."""
        return self._by_agent.keys()

    def note(self, state: CommandState, away_since_ms: int, read_until: str = "") -> None:
        """Record a command sent to a dashboard; `away_since_ms` is 0 if its agent is connected."""
        commands = self._by_agent.get(state.agent_id, {})
        before = commands.get(state.command_id)
        if before is not None and before.state.revision > state.revision:
            return
        if state.status is CommandStatus.ASSIGNED:
            commands[state.command_id] = SentState(state, away_since_ms, read_until)
            self._by_agent[state.agent_id] = commands
        elif before is not None:
            del commands[state.command_id]
            self._drop_if_empty(state.agent_id)

    def outdated(self, agent_id: str, away_since_ms: int) -> list[SentState]:
        """The commands of an agent last sent with a different `away_since_ms`."""
        return [sent for sent in self._by_agent.get(agent_id, {}).values() if sent.away_since_ms != away_since_ms]

    def prune(self, is_watched: Callable[[CommandState], bool]) -> None:
        """Remove commands without subscribers."""
        for agent_id, commands in list(self._by_agent.items()):
            for command_id in [name for name, sent in commands.items() if not is_watched(sent.state)]:
                del commands[command_id]
            self._drop_if_empty(agent_id)

    def _drop_if_empty(self, agent_id: str) -> None:
        if not self._by_agent[agent_id]:
            del self._by_agent[agent_id]
