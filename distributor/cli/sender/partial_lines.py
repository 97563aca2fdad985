"""Bytes to lines that begin with whose they are, without waiting for the end of a line for long."""

from __future__ import annotations

import re
from typing import Final

MAX_LINE_BYTES: Final = 65_536
"""What is held back of a line without end."""

LINE: Final = b"|"
CONTINUED: Final = b"+"
BEGINNING_LOST: Final = b"~"
"""Marks between prefix and text: a line, more of the line before, a line whose beginning may be missing."""

# A carriage return overwrites the line on a terminal, prefix included, so what follows it gets a line of its own.
# One at the very end may be the first half of CR LF.
_END: Final = re.compile(rb"\r?\n|\r(?=[^\n])")


class PartialLines:
    """The lines of one stream. Does no I/O: what it returns is to be written at once. Holds at most 64 KiB back."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._partial = b""
        self._mark = LINE

    @property
    def partial(self) -> bool:
        """Whether a line has begun and not ended."""
        return bool(self._partial)

    def feed(self, data: bytes) -> bytes:
        """What can be shown now that `data` has come: whole lines, and pieces that end with a carriage return."""
        searched = max(0, len(self._partial) - 1)
        self._partial += data
        shown, begin = [], 0
        for end in _END.finditer(self._partial, searched):
            shown.append(self._line(self._partial[begin : end.end()]))
            begin = end.end()
        self._partial = self._partial[begin:]
        while len(self._partial) > MAX_LINE_BYTES:
            shown.append(self._line(self._partial[:MAX_LINE_BYTES]))
            self._partial = self._partial[MAX_LINE_BYTES:]
        return b"".join(shown)

    def flush(self) -> bytes:
        """What has come of a line; the rest of it is marked as its continuation."""
        partial, self._partial = self._partial, b""
        return self._line(partial) if partial else b""

    def lose(self) -> bytes:
        """What has come of a line whose next bytes are lost; what comes after them does not join it."""
        shown = self.flush()
        self._mark = BEGINNING_LOST
        return shown

    def _line(self, piece: bytes) -> bytes:
        ended = piece.endswith(b"\n")
        line = b"%s %s %s" % (self._prefix, self._mark, piece if ended else piece + b"\n")
        self._mark = LINE if ended else CONTINUED
        return line
