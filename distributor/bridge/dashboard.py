"""One connected dashboard, as those see it who have something for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from typing import Final, NamedTuple

from distributor.bridge import messages
from distributor.bridge.dashboard_outbox import DashboardOutbox, Entry
from distributor.bridge.tokens import Identity
from distributor.model.command import CommandState
from distributor.model.position import order_of

MAX_TOLD_ENDED: Final = 4_096
"""More than a dashboard can be told of in the second or two until the events have come."""


class Change(NamedTuple):
    """A change of a command as it is told. `result` and `output_bytes`, what it printed in all, are set where it ended.

    `event` is where the event stands that says so. Who has been told it may resume from `position`, which is before
    that event while it says more. Both are empty where the state was read. `agent_away_since_ms` is 0 while the
    agent is connected. `without_position` makes `status` for a dashboard that cannot resume from there yet.
    """

    position: str
    state: CommandState
    status: str
    result: str = ""
    event: str = ""
    output_bytes: int = 0
    agent_away_since_ms: int = 0
    without_position: Callable[[], str] | None = None


class Dashboard:
    """Takes what others have for a dashboard, in order, and wakes its sender. Never blocks those who tell it.

    While it is `held`, changes of commands wait: it is being told how things are, and they come after that. As many
    wait as the outbox holds, then only endings; after `release` it is told anew what was left out.
    """

    def __init__(self, connection_id: str, identity: Identity, outbox: DashboardOutbox) -> None:
        self.connection_id = connection_id
        self.identity = identity
        self.outbox = outbox
        self.resync_reason = ""
        self.disturbed = asyncio.Event()
        """Set when the dashboard has to be told everything anew."""
        self.overrun = asyncio.Event()
        """Set when so much waits of what must not be left out that the connection has to end."""
        self.on_room: Callable[[], None] = _nothing
        """Called when there is room for output again that found none."""
        self.crowded_since: float | None = None
        """When the queue became full, by the clock of the loop; None once it is half empty."""
        self._filled = asyncio.Event()
        self._roomy = asyncio.Event()
        self._roomy.set()
        self._starved = False
        self._held: list[Change] | None = None
        self._held_bytes = 0
        self._left_out = False
        self._told_ended: dict[str, bool] = {}
        self._sequences: dict[str, int] = {}
        self._output_ended: set[str] = set()
        self._awaited_endings: set[str] = set()
        self._to_be_read: set[str] = set()
        self._endings_left: set[str] = set()
        self._missed_some = False
        self._position = ""
        self._now = asyncio.get_running_loop().time

    # SnapshotSync

    def tell(self, text: str) -> None:
        """Send an answer, or something else that is told once."""
        self.outbox.add(text, self._now())
        self._changed()

    def tell_agent(self, agent_id: str, text: str) -> None:
        """Send the state of an agent."""
        self.outbox.add_state(f"agent {agent_id}", text, self._now())
        self._changed()

    def tell_bridge(self, text: str) -> None:
        """Send what the bridge can use."""
        self.outbox.add_state("bridge", text, self._now())
        self._changed()

    def tell_change(self, change: Change, *, past: bool = False) -> None:
        """Send a change of a command, or a state that was read. One of the `past` comes before those held."""
        if self._held is not None and not past:
            self._keep_back(self._held, change)
            return
        command_id = change.state.command_id
        if self._suppressed(change):
            return
        placed = not change.position or self._told_all_until(change.position)
        status = change.status if placed or change.without_position is None else change.without_position()
        self.outbox.add_state(command_id, status, self._now(), final=change.state.status.terminal)
        if change.result:
            self.outbox.add_state(command_id, change.result, self._now(), final=True)
        if change.position and placed and not self.outbox.lost:
            self._position = change.position
        self._changed()

    def resumable(self, position: str) -> str:
        """Where to resume from, for whoever is told it now: `position`, or an earlier one while more is to be told."""
        if self._told_all_until(position):
            self._position = position
        return self._position

    def has_room_for_output(self) -> bool:
        """Whether output may be taken now; where not, `on_room` is called once the queue is half empty."""
        self._starved = self._starved or not self.outbox.has_room()
        self._note_crowded()
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
        held, left_out = self._held or [], self._left_out
        self._held, self._held_bytes, self._left_out = None, 0, False
        if left_out:
            self.resync("slow")
        return held

    def ended_already(self, command_id: str, *, result_told: bool) -> None:
        """It was told that a command has ended, before the event came that says so: what comes until then is old."""
        self._told_ended[command_id] = result_told
        if len(self._told_ended) > MAX_TOLD_ENDED:
            # Mostly those of which the event came before: nothing else would ever remove them.
            del self._told_ended[next(iter(self._told_ended))]

    def to_be_read(self, command_ids: Iterable[str]) -> None:
        """How these commands are is going to be read, and told."""
        self._to_be_read.update(command_ids)

    def leaves_ending(self, command_id: str) -> bool:
        """Whether how a command ended is left to what is going to be read, which has it as well: told once, in order.

        Until then it is sent no later position.
        """
        if command_id not in self._to_be_read:
            return False
        self._endings_left.add(command_id)
        return True

    def being_read(self, command_ids: Iterable[str]) -> None:
        """What changes from now on may be newer than what is read."""
        self._to_be_read.difference_update(command_ids)

    def was_read(self, command_ids: Iterable[str]) -> None:
        """What was read is told."""
        self._endings_left.difference_update(command_ids)

    def not_read(self, command_ids: Collection[str]) -> None:
        """They are not going to be read after all: an ending that was left to it is told with everything else."""
        self.being_read(command_ids)
        if not self._endings_left.isdisjoint(command_ids):
            self.was_read(command_ids)
            self.resync("interrupted")

    def resync(self, reason: str) -> None:
        """Changes may have been missed. Until it is `told_anew`, it is sent no later position."""
        self.resync_reason = reason
        self._missed_some = True
        self.disturbed.set()

    def told_anew(self) -> None:
        """It has been told everything anew: what was missed is made good, unless it was disturbed again meanwhile."""
        self._missed_some = self.disturbed.is_set()

    def begin_at(self, position: str) -> None:
        """It is connected, and knows to resume from `position`."""
        self._position = position

    # Output

    def await_ending(self, command_id: str) -> None:
        """A command has ended, of which this dashboard is told after the output: with `end_output`."""
        self._awaited_endings.add(command_id)

    def begin_output(self, command_id: str) -> None:
        """Output of a command starts, or starts again: what is queued of it is taken back."""
        self.outbox.drop_output(command_id)
        self._sequences[command_id] = 0
        self._output_ended.discard(command_id)
        # The queue may be empty now, and nothing be taken from it that would tell of room.
        self._note_room()

    def end_output(self, command_id: str) -> None:
        """No more output of a command comes; what is queued of it is numbered on."""
        self._awaited_endings.discard(command_id)
        self._output_ended.add(command_id)
        self._forget_ended_output(command_id)

    # Sending

    async def next(self) -> Entry:
        """The next entry to send, waited for."""
        while (entry := self.outbox.take()) is None:
            self._filled.clear()
            await self._filled.wait()
        self._note_room()
        return entry

    def text_of(self, entry: Entry) -> str:
        """What goes on the wire."""
        if not entry.command_id:
            return entry.text
        text = entry.text
        if not entry.gap:
            sequence = self._sequences.get(entry.command_id, 0)
            self._sequences[entry.command_id] = sequence + 1
            text = messages.terminal_output(sequence, text)
        self._forget_ended_output(entry.command_id)
        return text

    async def room(self) -> None:
        """Return once there is room: who asks faster than it reads waits here, until the queue is half empty."""
        while not self.outbox.has_room():
            self._roomy.clear()
            await self._roomy.wait()

    def _told_all_until(self, position: str) -> bool:
        if self._missed_some or self._left_out or self.outbox.lost or self._awaited_endings or self._endings_left:
            return False
        order = order_of(position)
        return all(held.position and order_of(held.position) > order for held in self._held or ())

    def _keep_back(self, held: list[Change], change: Change) -> None:
        size = len(change.status) + len(change.result)
        if not change.state.status.terminal and not self.outbox.would_hold(len(held) + 1, self._held_bytes + size):
            self._left_out = True
            return
        held.append(change)
        self._held_bytes += size
        if self.outbox.would_overrun(len(held), self._held_bytes):
            self.overrun.set()

    def _note_room(self) -> None:
        if not self.outbox.half_empty:
            return
        self.crowded_since = None
        self._roomy.set()
        if self._starved:
            self._starved = False
            self.on_room()
        if self.outbox.lost:
            self.outbox.lost = False
            self.resync("slow")

    def _note_crowded(self) -> None:
        if self.crowded_since is None and (self._starved or not self.outbox.has_room()):
            self.crowded_since = self._now()

    def _forget_ended_output(self, command_id: str) -> None:
        if command_id in self._output_ended and not self.outbox.has_output(command_id):
            self._output_ended.discard(command_id)
            self._sequences.pop(command_id, None)

    def _changed(self) -> None:
        self._filled.set()
        self._note_crowded()
        if self.outbox.overrun:
            self.overrun.set()

    def _suppressed(self, change: Change) -> bool:
        command_id = change.state.command_id
        if command_id not in self._told_ended or not change.position:
            return False
        if not change.state.status.terminal:
            return True
        return self._told_ended.pop(command_id)


def _nothing() -> None:
    pass
