"""How the updates of a followed command are shown as they come: raw, with a prefix on each line, or as JSON."""

from __future__ import annotations

from typing import Protocol

from distributor.cli.sender import tables
from distributor.cli.sender.json_forms import update_form
from distributor.cli.sender.screen import Screen
from distributor.client import (
    CommandResult,
    CommandStatus,
    CommandSummary,
    OutputChunk,
    OutputGap,
    OutputStream,
    Update,
)


class OutputView(Protocol):
    """Shows the updates of one command, in order."""

    def show(self, update: Update) -> None:
        """Show one update."""


class RawView:
    """The output of one command, byte for byte, its stderr on stderr; the rest as messages."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._told_whereabouts = False

    def show(self, update: Update) -> None:
        """Show one update."""
        match update:
            case OutputChunk():
                self._screen.raw(update.data, to_stderr=update.stream is OutputStream.STDERR)
            case OutputGap():
                self._screen.message(_gap_text(update))
            case CommandSummary():
                self._show_whereabouts(update)
            case CommandResult():
                self._screen.message(f"{update.command_id} {tables.ending_text(update)}")

    def _show_whereabouts(self, summary: CommandSummary) -> None:
        absence = tables.agent_absence(summary.state)
        if absence and not self._told_whereabouts:
            self._told_whereabouts = True
            self._screen.message(f"waiting: {summary.agent_id} {absence}")


class PrefixedView:
    """The output of one of many commands: whole lines, each after the agent's name. The last may lack its end."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._prefix = b""
        self._partial = dict.fromkeys(OutputStream, b"")

    def show(self, update: Update) -> None:
        """Show one update."""
        match update:
            case CommandSummary():
                self._prefix = f"{update.agent_id} | ".encode()
            case OutputChunk():
                self._show_lines(update.stream, update.data)
            case OutputGap():
                self._screen.message(self._prefix.decode() + _gap_text(update))
            case CommandResult():
                self._end_lines()
                if update.status is not CommandStatus.COMPLETED:
                    self._screen.message(f"{self._prefix.decode()}{update.command_id} {tables.ending_text(update)}")

    def _show_lines(self, stream: OutputStream, data: bytes) -> None:
        *lines, self._partial[stream] = (self._partial[stream] + data).split(b"\n")
        if lines:
            text = b"".join(self._prefix + line + b"\n" for line in lines)
            self._screen.raw(text, to_stderr=stream is OutputStream.STDERR)

    def _end_lines(self) -> None:
        for stream, partial in self._partial.items():
            if partial:
                self._show_lines(stream, b"\n")


class JsonView:
    """Each update as a JSON document on a line."""

    def __init__(self, screen: Screen, command_id: str) -> None:
        self._screen = screen
        self._command_id = command_id

    def show(self, update: Update) -> None:
        """Show one update."""
        self._screen.record(update_form(self._command_id, update))


def view_of(screen: Screen, command_id: str, *, one_of_many: bool) -> OutputView:
    """The view that fits the output format and the number of commands."""
    if not screen.for_people:
        return JsonView(screen, command_id)
    return PrefixedView(screen) if one_of_many else RawView(screen)


def _gap_text(gap: OutputGap) -> str:
    return f"{gap.end_offset - gap.begin_offset:,} bytes of output are not kept"
