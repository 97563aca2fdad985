"""Progress of many commands: a bar on a terminal, otherwise an occasional line."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from distributor.cli.sender.screen import Screen
from distributor.model.lifecycle import CommandStatus

if TYPE_CHECKING:
    from rich.console import Console
    from rich.live import Live

_LINE_INTERVAL_SECONDS: Final = 5.0
_HIDDEN_SECONDS: Final = 0.1
"""How long the bar stays hidden after other output: redrawing it for each line would cost more than the lines."""


class Bar:
    """A progress bar on the last line of the terminal at stderr. Belongs to the running event loop."""

    def __init__(self, console: Console, total: int) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        self._console = console
        self._progress = Progress(
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
        )
        self._task = self._progress.add_task("ended", total=total)
        self._drawn: Live | None = None
        self._due: asyncio.TimerHandle | None = None
        self._draw()

    def update(self, ended: int, text: str) -> None:
        """Show the number of ended commands, and `text` beside it."""
        self._progress.update(self._task, completed=ended, description=text)

    def hide(self) -> None:
        """Hide the bar, so that other output takes its line; it returns below that output."""
        if self._drawn is not None:
            self._drawn.stop()
            self._drawn = None
            self._due = asyncio.get_running_loop().call_later(_HIDDEN_SECONDS, self._draw)

    def close(self) -> None:
        """Remove the bar."""
        self.hide()
        if self._due is not None:
            self._due.cancel()

    def _draw(self) -> None:
        from rich.live import Live

        # A new one each time: a restarted one would first clear lines that now belong to other output.
        self._drawn = Live(
            self._progress, console=self._console, transient=True, redirect_stdout=False, redirect_stderr=False
        )
        self._drawn.start(refresh=True)


class CompletionProgress:
    """Shows on stderr how many commands have ended, with a bar if it is a terminal. Needs a running event loop."""

    def __init__(self, screen: Screen, total: int) -> None:
        self._screen = screen
        self._total = total
        self._counts: Counter[CommandStatus] = Counter()
        self._bar: Bar | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if sys.stderr is not None and sys.stderr.isatty():
            from rich.console import Console

            console = Console(stderr=True)
            # A dumb terminal cannot move its cursor.
            if console.is_interactive:
                self._bar = self._screen.drawing = Bar(console, self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._screen.drawing = None
            self._bar.close()
        self._screen.message(self._line())

    def ended(self, status: CommandStatus) -> None:
        """Count one more ended command."""
        self._counts[status] += 1
        if self._bar is not None:
            self._bar.update(self._counts.total(), self._by_status())
        elif time.monotonic() - self._last_line >= _LINE_INTERVAL_SECONDS:
            self._last_line = time.monotonic()
            self._screen.message(self._line())

    def _line(self) -> str:
        by_status = self._by_status()
        return f"{self._counts.total()} of {self._total} commands ended" + (f": {by_status}" if by_status else "")

    def _by_status(self) -> str:
        return ", ".join(f"{self._counts[status]} {status}" for status in CommandStatus if self._counts[status])
