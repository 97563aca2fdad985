"""The latest states of commands that one reader of events knows."""

from __future__ import annotations

from typing import Final

from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, merged

MAX_STATES: Final = 10_000


class KnownStates:
    """States to merge changes into, the latest `max_states`. Forgetting one costs a read, never a mistake."""

    def __init__(self, max_states: int = MAX_STATES) -> None:
        self._max_states = max_states
        self._states: dict[str, CommandState] = {}

    def learn(self, state: CommandState) -> bool:
        """Note a state. Return False if a state at least as new is known."""
        known = self._states.get(state.command_id)
        if known is None:
            self._states[state.command_id] = state
            if len(self._states) > self._max_states:
                del self._states[next(iter(self._states))]
            return True
        if known.revision >= state.revision:
            return False
        self._states[state.command_id] = state
        return True

    def is_old(self, change: CommandChanged) -> bool:
        """Whether a state at least as new is known."""
        known = self._states.get(change.command_id)
        return known is not None and known.revision >= change.revision

    def after(self, change: CommandChanged) -> CommandState | None:
        """The state after a change that is not old; None if it must be reread."""
        command_id = change.command_id
        known = self._states.get(command_id)
        state = merged(known, change)
        if state is None:
            # The change that is missing may still come. What it leads to would be older than what is reread.
            self._states.pop(command_id, None)
        elif known is None:
            self.learn(state)
        else:
            self._states[command_id] = state
        return state
