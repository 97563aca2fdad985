"""Views of a followed command: raw output, lines with a prefix, or JSON."""

from __future__ import annotations

import asyncio
from typing import Any, Final, Protocol

from distributor.cli.sender import tables
from distributor.cli.sender.partial_lines import PartialLines
from distributor.cli.sender.screen import Screen
from distributor.client import (
    CommandResult,
    CommandState,
    CommandStatus,
    OutputChunk,
    OutputGap,
    OutputStream,
    Update,
)
from distributor.wire.documents import gap_document, output_document, result_document, state_document

FLUSH_SECONDS: Final = 0.2
"""How long an incomplete line is held back when several commands share the screen."""


class OutputView(Protocol):
    """Shows the updates of one command, in order."""

    def show(self, update: Update) -> None:
        """Show one update."""

    def close(self) -> None:
        """Show output that was held back."""


class RawView:
    """Shows the output of one command byte for byte, its stderr on stderr, and other updates as messages."""

    def __init__(self, screen: Screen) -> None:
        self._screen = screen
        self._absence_shown = False

    def show(self, update: Update) -> None:
        """Show one update."""
        match update:
            case OutputChunk():
                self._screen.raw(update.data, to_stderr=update.stream is OutputStream.STDERR)
            case OutputGap():
                self._screen.message(_gap_text(update))
            case CommandState():
                self._show_absence(update)
            case CommandResult():
                self._screen.message(f"{update.command_id} {tables.outcome_text(update)}")

    def close(self) -> None:
        """Nothing is held back."""

    def _show_absence(self, state: CommandState) -> None:
        absence = tables.agent_absence(state)
        if absence and state.status is CommandStatus.QUEUED and not self._absence_shown:
            self._absence_shown = True
            self._screen.message(f"waiting: {state.agent_id} {absence}")


class PrefixedView:
    """Shows the output of one of many commands, each line after the agent's name and a mark (see `partial_lines`).

    An incomplete line, such as a prompt, is shown after `flush_seconds`. Belongs to the running event loop.
    """

    def __init__(self, screen: Screen, agent_id: str, flush_seconds: float = FLUSH_SECONDS) -> None:
        self._screen = screen
        self._flush_seconds = flush_seconds
        self._agent_id = agent_id
        self._lines: dict[OutputStream, PartialLines] = {}
        self._due: asyncio.TimerHandle | None = None
        self._failure: OSError | None = None

    def show(self, update: Update) -> None:
        """Show one update."""
        if self._failure is not None:
            raise self._failure
        match update:
            case CommandState():
                pass
            case OutputChunk():
                self._write(update.stream, self._lines_of(update.stream).feed(update.data))
                self._flush_soon()
            case OutputGap():
                for stream in OutputStream:
                    self._write(stream, self._lines_of(stream).lose())
                self._screen.message(f"{self._agent_id} | {_gap_text(update)}")
            case CommandResult():
                self.close()
                if update.status is not CommandStatus.COMPLETED or tables.leftovers_text(update):
                    self._screen.message(f"{self._agent_id} | {update.command_id} {tables.outcome_text(update)}")

    def close(self) -> None:
        """Show incomplete lines."""
        if self._due is not None:
            self._due.cancel()
            self._due = None
        self._flush()

    def _lines_of(self, stream: OutputStream) -> PartialLines:
        return self._lines.setdefault(stream, PartialLines(self._agent_id.encode()))

    def _flush_soon(self) -> None:
        if self._due is None and any(lines.partial for lines in self._lines.values()):
            self._due = asyncio.get_running_loop().call_later(self._flush_seconds, self._flush_late)

    def _flush_late(self) -> None:
        self._due = None
        try:
            self._flush()
        except OSError as error:
            # The next update raises it, in the task that follows the command.
            self._failure = error

    def _flush(self) -> None:
        for stream, lines in self._lines.items():
            self._write(stream, lines.flush())

    def _write(self, stream: OutputStream, lines: bytes) -> None:
        if lines:
            self._screen.raw(lines, to_stderr=stream is OutputStream.STDERR)


class JsonView:
    """Shows each update as a JSON document on one line."""

    def __init__(self, screen: Screen, command_id: str) -> None:
        self._screen = screen
        self._command_id = command_id

    def show(self, update: Update) -> None:
        """Show one update."""
        self._screen.record({"commandId": self._command_id} | _update_document(update))

    def close(self) -> None:
        """Nothing is held back."""


def view_of(screen: Screen, command_id: str, agent_id: str) -> OutputView:
    """The view for the output format. With an `agent_id`, the command shares the screen with others."""
    if not screen.for_people:
        return JsonView(screen, command_id)
    return PrefixedView(screen, agent_id) if agent_id else RawView(screen)


def _update_document(update: Update) -> dict[str, Any]:
    match update:
        case CommandState():
            return {"state": state_document(update)}
        case OutputChunk():
            return {"output": output_document(update)}
        case OutputGap():
            return {"gap": gap_document(update)}
        case CommandResult():
            return {"result": result_document(update)}


def _gap_text(gap: OutputGap) -> str:
    return f"{gap.end_offset - gap.begin_offset:,} bytes of output were lost"
