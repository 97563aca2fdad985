"""How far many commands are: a bar on a terminal, else a line now and then."""

from __future__ import annotations

import sys
import time
from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from distributor.cli.sender.screen import Screen
from distributor.model.lifecycle import CommandStatus

if TYPE_CHECKING:
    from rich.progress import Progress

_SECONDS_BETWEEN_LINES: Final = 5.0


class EndingProgress:
    """Counts endings on stderr from `with` to its end. `live` permits a bar where stderr is a terminal."""

    def __init__(self, screen: Screen, total: int, *, live: bool = True) -> None:
        self._screen = screen
        self._total = total
        self._live = live and sys.stderr.isatty()
        self._counts: Counter[CommandStatus] = Counter()
        self._bar: Progress | None = None
        self._last_line = time.monotonic()

    def __enter__(self) -> Self:
        if self._live:
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            self._bar = Progress(
                BarColumn(),
                MofNCompleteColumn(),
                TextColumn("{task.description}"),
                TimeElapsedColumn(),
                console=Console(stderr=True),
                transient=True,
                # stdout stays exactly ours.
                redirect_stdout=False,
                redirect_stderr=False,
            )
            self._bar.start()
            self._bar.add_task("ended", total=self._total)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
        self._screen.message(self._line())

    def ended(self, status: CommandStatus) -> None:
        """One more has ended."""
        self._counts[status] += 1
        if self._bar is not None:
            self._bar.update(self._bar.task_ids[0], advance=1, description=self._by_status() or "ended")
        elif time.monotonic() - self._last_line >= _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            self._screen.message(self._line())

    def _line(self) -> str:
        by_status = self._by_status()
        return f"{self._counts.total()} of {self._total} commands ended" + (f": {by_status}" if by_status else "")

    def _by_status(self) -> str:
        return ", ".join(f"{self._counts[status]} {status}" for status in CommandStatus if self._counts[status])
