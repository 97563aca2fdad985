"""Where things go: data to stdout, messages to stderr; colour on terminals only."""

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
    """How data is shown: for people, as one JSON document, or as a JSON document per line."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"


class Drawing(Protocol):
    """Something that is drawn on the terminal at stderr while other things are written."""

    def step_aside(self) -> None:
        """Make room for what is written next."""


class Screen:
    """The output of one call of the program. Raises BrokenPipeError once nobody reads stdout.

    `drawing` is what shares the terminal with it for now.
    """

    def __init__(self, format: str) -> None:
        self.format = Format(format)
        self.drawing: Drawing | None = None
        self._unended = {False: False, True: False}
        """Whether what was written to stdout (False) and stderr (True) ended within a line."""

    @property
    def for_people(self) -> bool:
        """Whether the data is a table."""
        return self.format is Format.TABLE

    def text(self, text: str) -> None:
        """Data for people."""
        self.raw(f"{text}\n".encode(sys.stdout.encoding, "backslashreplace"))

    def record(self, record: dict[str, Any]) -> None:
        """One JSON document on a line of its own."""
        self.text(json_line(record))

    def document(self, document: dict[str, Any] | list[dict[str, Any]]) -> None:
        """The one JSON document of this call."""
        self.text(json_document(document))

    def raw(self, data: bytes, *, to_stderr: bool = False) -> None:
        """Bytes of a command's output, exactly as they are, at once."""
        self._make_room(to_stderr=to_stderr)
        file = sys.stderr if to_stderr else sys.stdout
        # Without a stderr there is nowhere to complain either.
        if file is None:
            return
        stream = file.buffer
        rest = memoryview(data)
        # With PYTHONUNBUFFERED this is a plain write, which may take a part only: so it does when its reader goes away.
        while rest:
            rest = rest[stream.write(rest) :]
        stream.flush()
        if data:
            self._wrote(to_stderr, unended=not data.endswith(b"\n"))

    def message(self, text: str) -> None:
        """Something to know that is not data."""
        self._begin_line()
        click.echo(printable(text), err=True)

    def error(self, text: str) -> None:
        """What went wrong, on one line."""
        self._begin_line()
        show_error(text)

    def status(self, status: CommandStatus) -> str:
        """The word for a status, coloured on a terminal."""
        colour = _COLOURS.get(status)
        return click.style(status.value, fg=colour) if colour and self._coloured else status.value

    @property
    def width(self) -> int | None:
        """Characters in a line of the terminal; None where stdout is none, and nothing need be cut."""
        return shutil.get_terminal_size().columns if sys.stdout.isatty() else None

    def _begin_line(self) -> None:
        """Make room on stderr, on a line of its own: output of a command may have ended within one."""
        self._make_room()
        if self._unended[True]:
            click.echo(err=True)
            self._wrote(True, unended=False)

    def _wrote(self, to_stderr: bool, *, unended: bool) -> None:
        self._unended[to_stderr] = unended
        if self._one_place:
            self._unended[not to_stderr] = unended

    @cached_property
    def _one_place(self) -> bool:
        """Whether stdout and stderr are one terminal, pipe or file."""
        try:
            return os.path.sameopenfile(sys.stdout.fileno(), sys.stderr.fileno())
        except (AttributeError, OSError):
            return False

    def _make_room(self, *, to_stderr: bool = True) -> None:
        # It is drawn only where stderr is a terminal; stdout, if one too, is the same.
        if self.drawing is not None and (to_stderr or sys.stdout.isatty()):
            self.drawing.step_aside()

    @cached_property
    def _coloured(self) -> bool:
        if not sys.stdout.isatty():
            return False
        from rich.console import Console

        return not Console().no_color


def check_stdout() -> None:
    """Raise OSError where there is no standard output at all, before anything is done that could not be told."""
    if sys.stdout is None:
        raise OSError("standard output is closed")


def drop_stdout() -> None:
    """Let what is still buffered go nowhere once stdout has failed: the interpreter would complain of it at its end."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
