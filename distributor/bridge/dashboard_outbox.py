"""The bounded send queue of one dashboard, and what it drops when full.

    1. Output uses at most three quarters; beyond that it is rejected, and read from the store again later.
    2. If another message does not fit, queued output is cut: the pieces of a command become one gap.
    3. From half full, a newer state of a command or agent replaces an older one.
    4. If that is not enough, a non-final state is dropped, and `lost` requests a snapshot.
    5. Final states and replies are accepted up to four times the limit; beyond it the queue is `overrun`.

Preserves order and reports every loss. Pure: no clock, no loop.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import Final, NamedTuple

from distributor.bridge import messages

MAX_MESSAGES: Final = 256
MAX_BYTES: Final = 1_048_576
_OVERRUN: Final = 4


class Entry(NamedTuple):
    """A queued message. For output, `text` is the tail for bytes `begin` to `end`; with `gap`, they are missing."""

    text: str
    size: int
    queued_at: float
    key: str = ""
    command_id: str = ""
    begin: int = 0
    end: int = 0
    gap: bool = False


class DashboardOutbox:
    """The queue of one dashboard. `now` is stored as the queueing time of an entry."""

    def __init__(self, max_messages: int = MAX_MESSAGES, max_bytes: int = MAX_BYTES) -> None:
        self._max_messages = max_messages
        self._max_bytes = max_bytes
        self._entries: OrderedDict[int, Entry] = OrderedDict()
        self._serial = 0
        self._latest: dict[str, int] = {}
        self._output: OrderedDict[str, list[int]] = OrderedDict()
        self.bytes = 0
        self.cut_bytes = 0
        """Bytes of output cut."""
        self.lost = False
        """A state was dropped without a replacement. Reset once a snapshot is requested."""

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def overrun(self) -> bool:
        """Whether the queue exceeds its hard limit."""
        return self.would_overrun(len(self._entries), self.bytes)

    def would_hold(self, messages: int, bytes_: int) -> bool:
        """Whether that many messages and bytes fit the queue."""
        return messages <= self._max_messages and bytes_ <= self._max_bytes

    def would_overrun(self, messages: int, bytes_: int) -> bool:
        """Whether that many messages and bytes exceed the hard limit, four times the queue."""
        return messages > _OVERRUN * self._max_messages or bytes_ > _OVERRUN * self._max_bytes

    def has_room(self, size: int = 0) -> bool:
        """Whether output of `size` bytes would be accepted."""
        return 4 * (len(self._entries) + 1) <= 3 * self._max_messages and 4 * (self.bytes + size) <= 3 * self._max_bytes

    @property
    def half_empty(self) -> bool:
        """Whether the queue is at most half full."""
        return 2 * len(self._entries) <= self._max_messages and 2 * self.bytes <= self._max_bytes

    def add(self, text: str, now: float = 0.0) -> None:
        """Queue a reply, or another message that is never replaced."""
        size = _size_of(text)
        self._make_room(size)
        self._append(Entry(text, size, now))

    def add_state(self, key: str, text: str, now: float = 0.0, *, final: bool = False) -> None:
        """Queue the state of the command or agent identified by `key`."""
        if not self.half_empty:
            self._drop(self._latest.pop(key, None))
        size = _size_of(text)
        self._make_room(size)
        if not final and not self._fits(size):
            self.lost = True
            return
        self._append(Entry(text, size, now, key))
        if not final:
            self._latest[key] = self._serial

    def add_output(self, command_id: str, begin: int, end: int, tail: str, now: float = 0.0) -> bool:
        """Queue bytes `begin` to `end` of a command's output; return False if there is no room."""
        size = max(_size_of(tail), end - begin)
        if not self.has_room(size):
            return False
        self._append_output(Entry(tail, size, now, "", command_id, begin, end))
        return True

    def add_gap(self, command_id: str, begin: int, end: int, now: float = 0.0) -> bool:
        """Queue a gap for bytes `begin` to `end`, no longer stored; return False if there is no room."""
        if not self.has_room():
            return False
        text = messages.gap(command_id, begin, end, "not_kept")
        self._append_output(Entry(text, _size_of(text), now, "", command_id, begin, end, gap=True))
        return True

    def drop_output(self, command_id: str) -> None:
        """Drop the queued output of a command."""
        for serial in self._output.pop(command_id, ()):
            self._drop(serial)

    def has_output(self, command_id: str) -> bool:
        """Whether output or a gap of a command is queued."""
        return command_id in self._output

    def take(self) -> Entry | None:
        """Remove and return the oldest entry, or None."""
        if not self._entries:
            return None
        serial, entry = self._entries.popitem(last=False)
        self.bytes -= entry.size
        if entry.key and self._latest.get(entry.key) == serial:
            del self._latest[entry.key]
        if entry.command_id:
            serials = self._output[entry.command_id]
            serials.remove(serial)
            if not serials:
                del self._output[entry.command_id]
        return entry

    def _append(self, entry: Entry) -> None:
        self._serial += 1
        self._entries[self._serial] = entry
        self.bytes += entry.size

    def _append_output(self, entry: Entry) -> None:
        self._append(entry)
        self._output.setdefault(entry.command_id, []).append(self._serial)

    def _drop(self, serial: int | None) -> None:
        entry = self._entries.pop(serial, None) if serial is not None else None
        if entry is not None:
            self.bytes -= entry.size

    def _fits(self, size: int) -> bool:
        return self.would_hold(len(self._entries) + 1, self.bytes + size)

    def _make_room(self, size: int) -> None:
        """If there is no room, replace the queued output of each command by one gap at its first piece."""
        if self._fits(size):
            return
        for serials in self._output.values():
            pieces = [self._entries[serial] for serial in serials]
            if all(piece.gap for piece in pieces):
                continue
            self.cut_bytes += sum(piece.end - piece.begin for piece in pieces if not piece.gap)
            text = messages.gap(pieces[0].command_id, pieces[0].begin, pieces[-1].end, "slow")
            size = _size_of(text)
            for serial in serials[1:]:
                self._drop(serial)
            self._entries[serials[0]] = pieces[0]._replace(text=text, size=size, end=pieces[-1].end, gap=True)
            self.bytes += size - pieces[0].size
            del serials[1:]


def _size_of(text: str) -> int:
    """Size in bytes on the wire. Nearly all texts are ASCII, which Python knows without a scan."""
    return len(text) if text.isascii() else len(text.encode())
