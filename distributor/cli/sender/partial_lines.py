"""Splits output into prefixed lines, without holding back incomplete ones for long."""

from __future__ import annotations

import re
from typing import Final

MAX_LINE_BYTES: Final = 65_536
"""Limit of an incomplete line that is held back."""

LINE: Final = b"|"
CONTINUED: Final = b"+"
BEGINNING_LOST: Final = b"~"
"""Marks between prefix and text: a line, the continuation of a line, a line whose beginning may be lost."""

# On a terminal, text after a carriage return would overwrite the prefix, so it starts a new line. A carriage return
# at the very end may be the first half of CR LF.
_END: Final = re.compile(rb"\r?\n|\r(?=[^\n])")


class PartialLines:
    """The lines of one stream. Does no I/O: the caller writes what it returns. Holds back at most 64 KiB."""

    def __init__(self, prefix: bytes) -> None:
        self._prefix = prefix
        self._partial = b""
        self._mark = LINE

    @property
    def partial(self) -> bool:
        """Whether an incomplete line is held back."""
        return bool(self._partial)

    def feed(self, data: bytes) -> bytes:
        """Add `data` and return what can be shown: whole lines, and pieces that end with a carriage return."""
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
        """Return the incomplete line; the rest of it will be marked as a continuation."""
        partial, self._partial = self._partial, b""
        return self._line(partial) if partial else b""

    def lose(self) -> bytes:
        """Return the incomplete line after its next bytes were lost; later output does not join it."""
        shown = self.flush()
        self._mark = BEGINNING_LOST
        return shown

    def _line(self, piece: bytes) -> bytes:
        ended = piece.endswith(b"\n")
        line = b"%s %s %s" % (self._prefix, self._mark, piece if ended else piece + b"\n")
        self._mark = LINE if ended else CONTINUED
        return line
