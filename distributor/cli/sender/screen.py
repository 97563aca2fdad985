"""Writes data to stdout and messages to stderr, with colour on terminals only."""

from __future__ import annotations

import os
import shutil
import sys
from enum import StrEnum
from functools import cached_property
from typing import Any, Protocol

import click

from distributor.cli.one_line import printable, show_error
from distributor.cli.sender.json_text import json_document, json_line
from distributor.model.lifecycle import CommandStatus

_COLOURS = {
    CommandStatus.COMPLETED: "green",
    CommandStatus.FAILED: "red",
    CommandStatus.TIMEOUT: "red",
    CommandStatus.CANCELLED: "yellow",
}


class Format(StrEnum):
    """The output format: a table for people, one JSON document, or one JSON document per line."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class Drawing(Protocol):
    """Something drawn on the terminal at stderr, such as a progress bar."""

    def hide(self) -> None:
        """Hide it to make room for other output."""


class Screen:
    """The output of one run of the program. Raises BrokenPipeError once stdout has no reader.

    `drawing` currently shares the terminal, if any.
    """

    def __init__(self, format: str) -> None:
        self.format = Format(format)
        self.drawing: Drawing | None = None
        self._unended = {False: False, True: False}
        """Whether the last output to stdout (False) or stderr (True) ended without a newline."""

    @property
    def for_people(self) -> bool:
        """Whether the data is a table."""
        return self.format is Format.TABLE

    def text(self, text: str) -> None:
        """Write data for people."""
        self.raw(f"{text}\n".encode(sys.stdout.encoding, "backslashreplace"))

    def record(self, record: dict[str, Any]) -> None:
        """Write one JSON document on a line of its own."""
        self.text(json_line(record))

    def document(self, document: dict[str, Any] | list[dict[str, Any]]) -> None:
        """Write the one JSON document of this run."""
        self.text(json_document(document))

    def raw(self, data: bytes, *, to_stderr: bool = False) -> None:
        """Write bytes of a command's output unchanged and flush."""
        self._make_room(to_stderr=to_stderr)
        file = sys.stderr if to_stderr else sys.stdout
        # Without stderr, there is no place for an error either.
        if file is None:
            return
        stream = file.buffer
        rest = memoryview(data)
        # With PYTHONUNBUFFERED a write may be partial, for example when the reader goes away.
        while rest:
            rest = rest[stream.write(rest) :]
        stream.flush()
        if data:
            self._wrote(to_stderr, unended=not data.endswith(b"\n"))

    def message(self, text: str) -> None:
        """Write a message to stderr."""
        self._begin_line()
        click.echo(printable(text), err=True)

    def error(self, text: str) -> None:
        """Write an error to stderr, on one line."""
        self._begin_line()
        show_error(text)

    def status(self, status: CommandStatus) -> str:
        """The status word, coloured on a terminal."""
        colour = _COLOURS.get(status)
        return click.style(status.value, fg=colour) if colour and self._coloured else status.value

    @property
    def width(self) -> int | None:
        """Columns of the terminal at stdout; None if stdout is not a terminal."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def _begin_line(self) -> None:
        """Begin a new line on stderr if command output ended without a newline."""
        self._make_room()
        if self._unended[True]:
            click.echo(err=True)
            self._wrote(True, unended=False)

    def _wrote(self, to_stderr: bool, *, unended: bool) -> None:
        self._unended[to_stderr] = unended
        if self._same_file:
            self._unended[not to_stderr] = unended

    @cached_property
    def _same_file(self) -> bool:
        """Whether stdout and stderr are the same terminal, pipe or file."""
        try:
            return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
        except (AttributeError, OSError):
            return False

    def _make_room(self, *, to_stderr: bool = True) -> None:
        # The drawing is on stderr. If stdout is a terminal too, it is the same one.
        if self.drawing is not None and (to_stderr or sys.stdout.isatty()):
            self.drawing.hide()

    @cached_property
    def _coloured(self) -> bool:
        if not sys.stdout.isatty():
            return False
        from rich.console import Console

        return not Console().no_color


def check_stdout() -> None:
    """Raise OSError if standard output is closed, before doing anything whose outcome could not be shown."""
    if sys.stdout is None:
        raise OSError("standard output is closed")


def drop_stdout() -> None:
    """Discard buffered output after stdout failed; otherwise the interpreter reports an error at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
