"""The latest states of commands that a reader of events in order knows."""

from __future__ import annotations

from typing import Final

from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, merged

MAX_STATES: Final = 10_000


class KnownStates:
    """States to merge changes into, the latest `max_states`. Forgetting one costs a read, never a mistake.

    Only for changes of a command that come in order, possibly repeated; see Announcements for any order.
    """

    def __init__(self, max_states: int = MAX_STATES) -> None:
        self._max_states = max_states
        self._states: dict[str, CommandState] = {}

    def learn(self, state: CommandState) -> None:
        """Note a state, unless a state at least as new is known."""
        known = self._states.get(state.command_id)
        if known is None:
            self._states[state.command_id] = state
            if len(self._states) > self._max_states:
                del self._states[next(iter(self._states))]
        elif known.revision < state.revision:
            self._states[state.command_id] = state

    def is_superseded(self, change: CommandChanged) -> bool:
        """Whether a newer state is known, by a read ahead of the events. The change that led to it is still to come."""
        known = self._states.get(change.command_id)
        return known is not None and known.revision > change.revision

    def after(self, change: CommandChanged) -> CommandState | None:
        """The state after a change that is not superseded; None if it must be read."""
        state = merged(self._states.get(change.command_id), change)
        if state is None:
            # Of no more use: the changes in between do not come any more.
            self._states.pop(change.command_id, None)
        else:
            self.learn(state)
        return state
