"""Indexes the agent and command subscriptions of all dashboards.

Pure; lookups take constant time.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Set
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from distributor.errors import ResourceExhausted

MAX_PER_DASHBOARD: Final = 1_000

D = TypeVar("D", bound=Hashable)


@dataclass(slots=True)
class _Subscribed:
    commands: set[str] = field(default_factory=set)
    commands_of: set[str] = field(default_factory=set)
    agents: set[str] = field(default_factory=set)


class Subscriptions(Generic[D]):
    """The subscriptions of all dashboards, indexed by command, agent and dashboard."""

    def __init__(self, limit: int = MAX_PER_DASHBOARD) -> None:
        self._limit = limit
        self._by_dashboard: dict[D, _Subscribed] = {}
        self._by_command: dict[str, set[D]] = {}
        self._commands_of: dict[str, set[D]] = {}
        self._by_agent: dict[str, set[D]] = {}
        self._of_all_commands: set[D] = set()
        self._of_all_agents: set[D] = set()

    def check(self, dashboard: D, more: int) -> None:
        """Raise ResourceExhausted if `more` subscriptions would exceed the limit of `dashboard`."""
        if self.count(dashboard) + more > self._limit:
            raise ResourceExhausted(
                f"the limit of {self._limit:,} agents and commands per dashboard is reached; unsubscribe from some",
                reason="TOO_MANY_SUBSCRIPTIONS",
            )

    def add_commands(self, dashboard: D, command_ids: Iterable[str]) -> None:
        """Watch these commands."""
        _add(dashboard, self._of(dashboard).commands, self._by_command, command_ids)

    def add_commands_of(self, dashboard: D, agent_ids: Iterable[str]) -> None:
        """Watch all commands of these agents."""
        _add(dashboard, self._of(dashboard).commands_of, self._commands_of, agent_ids)

    def add_agents(self, dashboard: D, agent_ids: Iterable[str]) -> None:
        """Watch these agents."""
        _add(dashboard, self._of(dashboard).agents, self._by_agent, agent_ids)

    def add_all_commands(self, dashboard: D) -> None:
        """Watch every command."""
        self._of_all_commands.add(dashboard)

    def add_all_agents(self, dashboard: D) -> None:
        """Watch every agent."""
        self._of_all_agents.add(dashboard)

    def remove_commands(self, dashboard: D, command_ids: Iterable[str]) -> None:
        """Stop watching these commands."""
        _remove(dashboard, self._known(dashboard).commands, self._by_command, command_ids)

    def remove_commands_of(self, dashboard: D, agent_ids: Iterable[str]) -> None:
        """Stop watching the commands of these agents."""
        _remove(dashboard, self._known(dashboard).commands_of, self._commands_of, agent_ids)

    def remove_agents(self, dashboard: D, agent_ids: Iterable[str]) -> None:
        """Stop watching these agents."""
        _remove(dashboard, self._known(dashboard).agents, self._by_agent, agent_ids)

    def remove_all_commands(self, dashboard: D) -> None:
        """Stop watching every command; subscriptions by id stay."""
        self._of_all_commands.discard(dashboard)

    def remove_all_agents(self, dashboard: D) -> None:
        """Stop watching every agent; subscriptions by id stay."""
        self._of_all_agents.discard(dashboard)

    def drop(self, dashboard: D) -> None:
        """Remove a disconnected dashboard."""
        held = self._by_dashboard.pop(dashboard, _Subscribed())
        for index, names in (
            (self._by_command, held.commands),
            (self._commands_of, held.commands_of),
            (self._by_agent, held.agents),
        ):
            for name in names:
                _discard(index, name, dashboard)
        self._of_all_commands.discard(dashboard)
        self._of_all_agents.discard(dashboard)

    def watchers_of_command(self, command_id: str, agent_id: str) -> Set[D]:
        """The dashboards that watch a command of an agent."""
        sets = (self._by_command.get(command_id), self._commands_of.get(agent_id), self._of_all_commands)
        return _union(*(found for found in sets if found))

    def watchers_of_agent(self, agent_id: str) -> Set[D]:
        """The dashboards that watch an agent."""
        named = self._by_agent.get(agent_id)
        return _union(*(found for found in (named, self._of_all_agents) if found))

    @property
    def of_all_agents(self) -> Set[D]:
        """The dashboards that watch every agent."""
        return self._of_all_agents

    @property
    def of_all_commands(self) -> Set[D]:
        """The dashboards that watch every command."""
        return self._of_all_commands

    @property
    def agents(self) -> Set[str]:
        """The agents subscribed by id."""
        return self._by_agent.keys()

    def commands(self, dashboard: D) -> Set[str]:
        """The commands `dashboard` is subscribed to by id."""
        return self._known(dashboard).commands

    def commands_of(self, dashboard: D) -> Set[str]:
        """The agents whose commands `dashboard` watches."""
        return self._known(dashboard).commands_of

    def named_agents(self, dashboard: D) -> Set[str]:
        """The agents `dashboard` is subscribed to by id."""
        return self._known(dashboard).agents

    def count(self, dashboard: D) -> int:
        """The number of agents and commands `dashboard` is subscribed to by id."""
        held = self._known(dashboard)
        return len(held.commands) + len(held.commands_of) + len(held.agents)

    def __len__(self) -> int:
        """The number of commands and agents subscribed by id."""
        return len(self._by_command) + len(self._commands_of) + len(self._by_agent)

    def _of(self, dashboard: D) -> _Subscribed:
        return self._by_dashboard.setdefault(dashboard, _Subscribed())

    def _known(self, dashboard: D) -> _Subscribed:
        return self._by_dashboard.get(dashboard) or _Subscribed()


def _add(dashboard: D, held: set[str], index: dict[str, set[D]], names: Iterable[str]) -> None:
    for name in names:
        held.add(name)
        index.setdefault(name, set()).add(dashboard)


def _remove(dashboard: D, held: set[str], index: dict[str, set[D]], names: Iterable[str]) -> None:
    for name in held.intersection(names):
        held.discard(name)
        _discard(index, name, dashboard)


def _discard(index: dict[str, set[D]], name: str, dashboard: D) -> None:
    found = index[name]
    found.discard(dashboard)
    if not found:
        del index[name]


def _union(*sets: set[D]) -> Set[D]:
    if len(sets) == 1:
        return sets[0]
    return set().union(*sets)
