"""State of one connected dashboard: its send queue, held changes and resume position."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from distributor.bridge import messages
from distributor.bridge.credentials import Credential
from distributor.bridge.dashboard_outbox import DashboardOutbox, Entry
from distributor.bridge.read_states import ReadStates
from distributor.identity.caller import Caller
from distributor.model.command import CommandState
from distributor.model.dashboard_event import DashboardEventKind
from distributor.model.position import order_of


class Change(NamedTuple):
    """A command change and its messages. `result` and `output_bytes` (output size) are set once the command ended.

    `event` is the position of the reporting event. After this change a dashboard may resume from `position`, which is
    earlier than `event` if the event reports more changes. Both are empty for states read from the store; those have
    `read_until`, the end of the event stream after the read: up to it, events may report older states.
    `agent_away_since_ms` is 0 while the agent is connected. `without_position` builds `status` for a dashboard that
    cannot resume from `position` yet.
    """

    position: str
    state: CommandState
    status: str
    result: str = ""
    event: str = ""
    output_bytes: int = 0
    agent_away_since_ms: int = 0
    without_position: Callable[[], str] | None = None
    read_until: str = ""


class Dashboard:
    """Queues messages for one dashboard in order and wakes its sender. Never blocks the caller.

    Between `hold` and `release`, while a snapshot is read and sent, command changes are held: up to the size of the
    outbox, beyond that only endings. If changes were dropped, `release` requests another snapshot.
    """

    def __init__(
        self,
        connection_id: str,
        credential: Credential,
        outbox: DashboardOutbox,
    ) -> None:
        self.connection_id = connection_id
        self.credential = credential
        self.outbox = outbox
        self.reads = ReadStates()
        self.resync_reason = ""
        self.resync_needed = asyncio.Event()
        """Set when the dashboard needs a snapshot."""
        self.overrun = asyncio.Event()
        """Set when undroppable messages exceed the hard limit of the queue."""
        self.on_room: Callable[[], None] = _nothing
        """Called when there is room again after output was rejected."""
        self.on_read: Callable[[DashboardEventKind, str], None] = _not_noted
        """Called when a result is sent, and with the first output of each subscription."""
        self.full_since: float | None = None
        """When the queue became full, in loop time; None once it is half empty."""
        self._has_entries = asyncio.Event()
        self._has_room = asyncio.Event()
        self._has_room.set()
        self._output_waits = False
        self._held: list[Change] | None = None
        self._held_bytes = 0
        self._dropped_changes = False
        self._sequences: dict[str, int] = {}
        self._output_ended: set[str] = set()
        self._output_unread: set[str] = set()
        self._expected_endings: set[str] = set()
        self._missed_changes = False
        self._position = ""
        self._now = asyncio.get_running_loop().time

    @property
    def caller(self) -> Caller:
        """Whose dashboard it is."""
        return self.credential.caller

    # Messages

    def send(self, text: str) -> None:
        """Send a reply, or another message that is never replaced."""
        self.outbox.add(text, self._now())
        self._changed()

    def send_agent(self, agent_id: str, text: str) -> None:
        """Send the state of an agent."""
        self.outbox.add_state(f"agent {agent_id}", text, self._now())
        self._changed()

    def send_bridge(self, text: str) -> None:
        """Send the status of the bridge's backends."""
        self.outbox.add_state("bridge", text, self._now())
        self._changed()

    def takes(self, change: Change) -> bool:
        """Whether to send a change now. False if it is held until `release`, or a newer state was sent."""
        if self._held is not None:
            self._hold_change(self._held, change)
            return False
        return self.takes_ahead(change)

    def takes_ahead(self, change: Change) -> bool:
        """Whether to send a change ahead of those held. False if a newer state was sent."""
        is_new = self.reads.is_news if change.event else self.reads.is_newest
        if not is_new(change.state):
            return False
        if change.read_until:
            self.reads.note(change.state, change.read_until)
        else:
            self.reads.sent(change.state)
        return True

    def send_change(self, change: Change) -> None:
        """Send a change that `takes` approved, or one that precedes those held."""
        command_id = change.state.command_id
        placed = not change.position or self._is_complete_until(change.position)
        status = change.status if placed or change.without_position is None else change.without_position()
        self.outbox.add_state(command_id, status, self._now(), final=change.state.status.terminal)
        if change.result:
            self.outbox.add_state(command_id, change.result, self._now(), final=True)
            self.on_read(DashboardEventKind.RESULT_READ, command_id)
        if change.position and placed and not self.outbox.lost:
            self._position = change.position
        self._changed()

    def resume_position(self, position: str) -> str:
        """The position to resume from after a disconnect; earlier than `position` while changes are pending."""
        if self._is_complete_until(position):
            self._position = position
        return self._position

    def has_room_for_output(self) -> bool:
        """Whether output is accepted now; if not, `on_room` is called once the queue is half empty."""
        self._output_waits = self._output_waits or not self.outbox.has_room()
        self._note_full()
        return not self._output_waits

    def send_output(self, command_id: str, begin: int, end: int, tail: str) -> bool:
        """Send a piece of output. Return False if there is no room; `on_room` is called later."""
        taken = self.outbox.add_output(command_id, begin, end, tail, self._now())
        self._output_waits = self._output_waits or not taken
        if taken and command_id in self._output_unread:
            self._output_unread.discard(command_id)
            self.on_read(DashboardEventKind.OUTPUT_READ, command_id)
        self._changed()
        return taken

    def send_gap(self, command_id: str, begin: int, end: int) -> bool:
        """Report bytes that the store no longer has. Returns like `send_output`."""
        taken = self.outbox.add_gap(command_id, begin, end, self._now())
        self._output_waits = self._output_waits or not taken
        self._changed()
        return taken

    # Snapshots and reads

    def hold(self) -> None:
        """Hold changes until `release`."""
        self._held = []

    def release(self) -> list[Change]:
        """Stop holding changes and return those held."""
        held, left_out = self._held or [], self._dropped_changes
        self._held, self._held_bytes, self._dropped_changes = None, 0, False
        if left_out:
            self.resync("slow")
        return held

    def resync(self, reason: str) -> None:
        """Request a snapshot after missed changes. Until `snapshot_sent`, no later position is sent."""
        self.resync_reason = reason
        self._missed_changes = True
        self.resync_needed.set()

    def snapshot_sent(self) -> None:
        """A snapshot was sent and makes up for missed changes, unless more were missed meanwhile."""
        self._missed_changes = self.resync_needed.is_set()

    def set_resume_position(self, position: str) -> None:
        """Connected: the dashboard has been sent `position` to resume from."""
        self._position = position

    # Output

    def expect_ending(self, command_id: str) -> None:
        """Record that a command's ending will be sent after its output, by `end_output`."""
        self._expected_endings.add(command_id)

    def begin_output(self, command_id: str) -> None:
        """Start or restart the output of a command: drop its queued output."""
        self.outbox.drop_output(command_id)
        self._sequences[command_id] = 0
        self._output_unread.add(command_id)
        self._output_ended.discard(command_id)
        # If the queue is empty now, no `take` will report the room.
        self._note_room()

    def end_output(self, command_id: str) -> None:
        """End the output of a command; queued output keeps its numbering."""
        self._expected_endings.discard(command_id)
        self._output_unread.discard(command_id)
        self._output_ended.add(command_id)
        self._forget_ended_output(command_id)

    # Sending

    async def next_entry(self) -> Entry:
        """Wait for the next entry to send."""
        while (entry := self.outbox.take()) is None:
            self._has_entries.clear()
            await self._has_entries.wait()
        self._note_room()
        return entry

    def text_of(self, entry: Entry) -> str:
        """The wire text of an entry."""
        if not entry.command_id:
            return entry.text
        text = entry.text
        if not entry.gap:
            sequence = self._sequences.get(entry.command_id, 0)
            self._sequences[entry.command_id] = sequence + 1
            text = messages.terminal_output(sequence, text)
        self._forget_ended_output(entry.command_id)
        return text

    async def wait_for_room(self) -> None:
        """Wait until the queue is half empty. Applies backpressure to a dashboard that sends faster than it reads."""
        while not self.outbox.has_room():
            self._has_room.clear()
            await self._has_room.wait()

    def _is_complete_until(self, position: str) -> bool:
        if self._missed_changes or self._dropped_changes or self.outbox.lost or self._expected_endings:
            return False
        order = order_of(position)
        return all(held.position and order_of(held.position) > order for held in self._held or ())

    def _hold_change(self, held: list[Change], change: Change) -> None:
        size = len(change.status) + len(change.result)
        if not change.state.status.terminal and not self.outbox.would_hold(len(held) + 1, self._held_bytes + size):
            self._dropped_changes = True
            return
        held.append(change)
        self._held_bytes += size
        if self.outbox.would_overrun(len(held), self._held_bytes):
            self.overrun.set()

    def _note_room(self) -> None:
        if not self.outbox.half_empty:
            return
        self.full_since = None
        self._has_room.set()
        if self._output_waits:
            self._output_waits = False
            self.on_room()
        if self.outbox.lost:
            self.outbox.lost = False
            self.resync("slow")

    def _note_full(self) -> None:
        if self.full_since is None and (self._output_waits or not self.outbox.has_room()):
            self.full_since = self._now()

    def _forget_ended_output(self, command_id: str) -> None:
        if command_id in self._output_ended and not self.outbox.has_output(command_id):
            self._output_ended.discard(command_id)
            self._sequences.pop(command_id, None)

    def _changed(self) -> None:
        self._has_entries.set()
        self._note_full()
        if self.outbox.overrun:
            self.overrun.set()


def _nothing() -> None:
    pass


def _not_noted(_kind: DashboardEventKind, _command_id: str) -> None:
    pass
