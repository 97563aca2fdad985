"""Remembers the revisions of states that were read from the store for a dashboard, ahead of their events.

Events arrive in order, and a read returns at least what was delivered before it began. So only a state that was read
may be followed by older ones: by the events up to the position at which the stream ended after the read. Once these
are delivered, the state is forgotten. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

from distributor.model.command import CommandState
from distributor.model.position import order_of


class _Read(NamedTuple):
    revision: int
    until: tuple[int, int]
    ending_due: bool


class ReadStates:
    """The states of one dashboard that were read from the store and may be followed by older events."""

    def __init__(self) -> None:
        self._reads: dict[str, _Read] = {}

    def __len__(self) -> int:
        return len(self._reads)

    def note(self, state: CommandState, until: str, *, ending_due: bool = False) -> None:
        """Record that the dashboard was sent a state read before the event stream ended at position `until`.

        `ending_due`: the ending, if it is one, is still to be sent with its result, when its event arrives.
        """
        # Remove it first: the dict is in the order of reading, which is the order of `until`.
        before = self._reads.pop(state.command_id, None)
        was_sent = before is not None and before.revision == state.revision and not before.ending_due
        ending_due = ending_due and state.status.terminal and not was_sent
        self._reads[state.command_id] = _Read(state.revision, order_of(until), ending_due)

    def is_newest(self, state: CommandState) -> bool:
        """Whether no newer state was read."""
        read = self._reads.get(state.command_id)
        return read is None or state.revision >= read.revision

    def is_news(self, state: CommandState) -> bool:
        """Whether the state of an event is newer than what was read, or an ending that is due."""
        read = self._reads.get(state.command_id)
        if read is None or state.revision > read.revision:
            return True
        return read.ending_due and state.revision == read.revision

    def sent(self, state: CommandState) -> None:
        """Record that the dashboard was sent a state that no older one can follow."""
        read = self._reads.get(state.command_id)
        if read is not None:
            self._reads[state.command_id] = read._replace(revision=state.revision, ending_due=False)

    def delivered(self, until: str) -> None:
        """Forget the states whose older events have been delivered: those up to `until`."""
        order = order_of(until)
        while self._reads and self._reads[oldest := next(iter(self._reads))].until <= order:
            del self._reads[oldest]
