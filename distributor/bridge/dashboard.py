"""One connected dashboard, as those see it who have something for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from distributor.bridge import messages
from distributor.bridge.outbox import Entry, Outbox
from distributor.bridge.tokens import Identity
from distributor.model.command import CommandState


class Change(NamedTuple):
    """A change of a command as it is told. `result` is set where it ended; `position` is empty where it was read."""

    position: str
    state: CommandState
    status: str
    result: str = ""


class Dashboard:
    """Takes what others have for a dashboard, in order, and wakes its sender. Never blocks those who tell it.

    While it is `held`, changes of commands wait: it is being told how things are, and they come after that.
    """

    def __init__(self, connection_id: str, identity: Identity, outbox: Outbox) -> None:
        self.connection_id = connection_id
        self.identity = identity
        self.outbox = outbox
        self.resync_reason = ""
        self.disturbed = asyncio.Event()
        """Set when the dashboard has to be told everything anew."""
        self.on_room: Callable[[], None] = _nothing
        """Called when there is room for output again that found none."""
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._starved = False
        self._held: list[Change] | None = None
        self._told_ended: dict[str, bool] = {}
        self._sequences: dict[str, int] = {}
        self._now = asyncio.get_running_loop().time

    # Telling

    def tell(self, text: str) -> None:
        """Send an answer, or something else that is told once."""
        self.outbox.add(text, self._now())
        self._changed()

    def tell_agent(self, agent_id: str, text: str) -> None:
        """Send the state of an agent."""
        self.outbox.add_state(f"agent {agent_id}", text, self._now())
        self._changed()

    def tell_change(self, change: Change, *, past: bool = False) -> None:
        """Send a change of a command, or a state that was read. One of the `past` comes before those held."""
        if self._held is not None and not past:
            self._held.append(change)
            return
        command_id = change.state.command_id
        if self._suppressed(change):
            return
        self.outbox.add_state(command_id, change.status, self._now(), final=change.state.status.terminal)
        if change.result:
            self.outbox.add_state(command_id, change.result, self._now(), final=True)
        self._changed()

    def has_room_for_output(self) -> bool:
        """Whether output may be taken now; where not, `on_room` is called once the queue is half empty."""
        self._starved = self._starved or not self.outbox.has_room()
        return not self._starved

    def tell_output(self, command_id: str, begin: int, end: int, tail: str) -> bool:
        """Send a piece of output; False, and `on_room` is called later, where there is no room."""
        taken = self.outbox.add_output(command_id, begin, end, tail, self._now())
        self._starved = self._starved or not taken
        self._changed()
        return taken

    def tell_gap(self, command_id: str, begin: int, end: int) -> bool:
        """Send that bytes are not kept any more; as `tell_output`."""
        taken = self.outbox.add_gap(command_id, begin, end, self._now())
        self._starved = self._starved or not taken
        self._changed()
        return taken

    # Being told how things are

    def hold(self) -> None:
        """Keep changes back until `release`."""
        self._held = []

    def release(self) -> list[Change]:
        """Let changes through again; returns those that came meanwhile."""
        held, self._held = self._held or [], None
        return held

    def ended_already(self, command_id: str, *, result_told: bool) -> None:
        """It was told that a command has ended, before the event came that says so: what comes until then is old."""
        self._told_ended[command_id] = result_told

    def resync(self, reason: str) -> None:
        """Changes may have been missed."""
        self.resync_reason = reason
        self.disturbed.set()

    # Output

    def begin_output(self, command_id: str) -> None:
        """Output of a command starts, or starts again: what is queued of it is taken back."""
        self.outbox.drop_output(command_id)
        self._sequences[command_id] = 0

    def end_output(self, command_id: str) -> None:
        """No more output of a command."""
        self._sequences.pop(command_id, None)

    # Sending

    async def next(self) -> Entry:
        """The next entry to send, waited for."""
        while (entry := self.outbox.take()) is None:
            self._filled.clear()
            await self._filled.wait()
        self._taken()
        return entry

    def text_of(self, entry: Entry) -> str:
        """What goes on the wire."""
        if not entry.command_id or entry.gap:
            return entry.text
        sequence = self._sequences.get(entry.command_id, 0)
        self._sequences[entry.command_id] = sequence + 1
        return messages.terminal_output(sequence, entry.text)

    @property
    def crowded(self) -> bool:
        """Whether something found no room."""
        return self._starved or not self.outbox.has_room()

    async def room(self) -> None:
        """Return once there is room: who asks faster than it reads waits here."""
        while not self.outbox.has_room():
            self._roomy.clear()
            await self._roomy.wait()

    def _taken(self) -> None:
        if self.outbox.has_room():
            self._roomy.set()
        if self._starved and self.outbox.half_empty:
            self._starved = False
            self.on_room()
        if self.outbox.lost and self.outbox.half_empty:
            self.outbox.lost = False
            self.resync("slow")

    def _changed(self) -> None:
        self._filled.set()
        if self.outbox.overrun:
            self.disturbed.set()

    def _suppressed(self, change: Change) -> bool:
        command_id = change.state.command_id
        if command_id not in self._told_ended or not change.position:
            return False
        if not change.state.status.terminal:
            return True
        return self._told_ended.pop(command_id)


def _nothing() -> None:
    pass
