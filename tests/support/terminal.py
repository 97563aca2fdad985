"""A terminal that runs a program and interprets its control sequences."""

from __future__ import annotations

import asyncio
import fcntl
import os
import pty
import re
import struct
import termios
from types import TracebackType
from typing import Self

from tests.support.waiting import PATIENCE_SECONDS

_PIECE = re.compile(r"\x1b\[(?P<number>\??[0-9;]*)(?P<letter>[A-Za-z])|(?P<control>[\r\n])|(?P<text>[^\x1b\r\n]+)")


class Terminal:
    """Both ends of a pseudo-terminal; a program gets `theirs`. An async context manager: read until the program ended.

    Knows what programs of ours use: text, the start of the line, a new line, one line up, an emptied line.
    """

    def __init__(self, columns: int = 120) -> None:
        self._ours, self.theirs = pty.openpty()
        fcntl.ioctl(self.theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
        self._data = b""
        self._more = asyncio.Event()
        self._closed = asyncio.Event()

    async def __aenter__(self) -> Self:
        os.set_blocking(self._ours, False)
        asyncio.get_running_loop().add_reader(self._ours, self._read)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self.theirs)
        if kind is None:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await self._closed.wait()
        asyncio.get_running_loop().remove_reader(self._ours)
        os.close(self._ours)

    def _read(self) -> None:
        try:
            piece = os.read(self._ours, 65_536)
        except OSError:
            # Linux answers EIO once the other side is closed.
            piece = b""
        if not piece:
            asyncio.get_running_loop().remove_reader(self._ours)
            self._closed.set()
        self._data += piece
        self._more.set()

    def type(self, text: str) -> None:
        """Type `text`, as a person does."""
        os.write(self._ours, text.encode())

    async def until(self, text: str) -> None:
        """Wait, bounded, until the program has written `text`, colour aside."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while text not in self.ever_drawn:
                self._more.clear()
                await self._more.wait()

    @property
    def ever_drawn(self) -> str:
        """All text that was written, also what is no longer to be seen."""
        return "".join(piece["text"] or "\n" for piece in self._pieces() if not piece["letter"])

    @property
    def lines(self) -> list[str]:
        """What is to be seen, empty lines aside."""
        rows, row, column = [""], 0, 0
        for piece in self._pieces():
            if piece["text"]:
                line = rows[row].ljust(column)
                rows[row] = line[:column] + piece["text"] + line[column + len(piece["text"]) :]
                column += len(piece["text"])
            elif piece["control"] == "\r":
                column = 0
            elif piece["control"] == "\n":
                row += 1
                rows += [""] * (row + 1 - len(rows))
            elif piece["letter"] == "A":
                row -= int(piece["number"] or 1)
            elif piece["letter"] == "K":
                rows[row] = ""
        return [line.rstrip() for line in rows if line.strip()]

    def _pieces(self) -> list[re.Match[str]]:
        return list(_PIECE.finditer(self._data.decode(errors="replace")))
