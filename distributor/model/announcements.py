"""The changes of commands that were announced to watchers, whatever the order in which they come."""

from __future__ import annotations

from typing import Final

from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, merged

MAX_COMMANDS: Final = 10_000


class _Known:
    """The newest known state of a command, and the highest revision announced.

    The state may be newer, because it was read before its change was announced, or None, as a change was missing.
    """

    __slots__ = ("announced", "announced_ms", "state")

    def __init__(self, state: CommandState | None, announced: int, announced_ms: int) -> None:
        self.state = state
        self.announced = announced
        self.announced_ms = announced_ms


class Announcements:
    """Announces each revision of a command once, and none after a higher one.

    A state that one watcher has read is only used to merge changes into: other watchers have not seen it, so its change
    is announced all the same. The latest `max_commands` are remembered. A change that happened before the last one of a
    forgotten command may be older than what was announced, so its state must be read.
    """

    def __init__(self, max_commands: int = MAX_COMMANDS) -> None:
        self._max_commands = max_commands
        self._known: dict[str, _Known] = {}
        self._forgotten_until_ms = -1

    def announce(self, change: CommandChanged, at_ms: int) -> CommandState | CommandChanged | None:
        """The state after a change, the change itself if that must be read, or None if there is nothing to announce.

        `at_ms` is when the command changed, by Valkey's clock. If the state read is newer than the change, omit it: it
        was announced before, or will be.
        """
        known = self._known.get(change.command_id)
        if known is None:
            state = merged(None, change)
            self._remember(change.command_id, _Known(state, change.revision, at_ms))
        elif change.revision <= known.announced:
            return None
        else:
            state = known.state
            if state is not None and state.revision > change.revision:
                return None
            known.state = state = merged(state, change)
            known.announced = change.revision
            known.announced_ms = at_ms
        if state is None or (at_ms <= self._forgotten_until_ms and not state.status.terminal):
            return change
        return state

    def learn(self, state: CommandState) -> None:
        """Note a state that was read, to merge later changes into."""
        known = self._known.get(state.command_id)
        if known is None:
            self._remember(state.command_id, _Known(state, 0, -1))
        elif known.state is None or known.state.revision < state.revision:
            known.state = state

    def forget_until(self, at_ms: int) -> None:
        """Changes up to this time, in ms by Valkey's clock, may have been announced without `announce`."""
        self._forgotten_until_ms = max(self._forgotten_until_ms, at_ms)

    def _remember(self, command_id: str, known: _Known) -> None:
        self._known[command_id] = known
        if len(self._known) > self._max_commands:
            self.forget_until(self._known.pop(next(iter(self._known))).announced_ms)
