"""Writes the record's changes to the journal, many in one commit."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from distributor.agent.journal import JOURNAL_FULL, JOURNAL_SLOW, NEARLY_FULL, JournalError
from distributor.agent.journal_entries import CommandEntry, JournalBatch, OutputEntry
from distributor.agent.journal_thread import JournalThread
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.model.command import Reason
from distributor.observability.logging import get_logger
from distributor.tasks import finishes

logger = get_logger()

LATER_SECONDS: Final = 1.0
"""How long changes that are not urgent wait for one that is."""

RETRY_SECONDS: Final = 1.0
"""Pause after a commit that failed."""

OUTPUT_SECONDS: Final = 0.05
"""Output that the server acknowledges within this time is never written."""

OFFLINE_OUTPUT_SECONDS: Final = 0.005
"""The same while there is no connection, so that nobody acknowledges any."""

SLOW_SECONDS: Final = 2.0
"""After a commit of so long the agent takes no new commands, until it ends."""

CLOSE_SECONDS: Final = 5.0
"""How long closing waits for the disk."""

_NEARLY_FULL: Final = Reason(JOURNAL_FULL, "the journal is close to its bound, journal_bytes")
_SLOW: Final = Reason(JOURNAL_SLOW, "the journal's disk does not answer")


@dataclass(slots=True)
class _WatchedOutput:
    """Output of one command that may have to be written. `mark`: what there was when it was last looked at."""

    held: RecordedCommand
    mark: int = 0
    trimmed: int = -1
    """Output before this offset was removed from the journal; -1 if it has none."""


class JournalWriter:
    """Commits in the background, one commit at a time; belongs to the connection's loop.

    All changes of one turn of the loop, and those made during a commit, share the next. `on_written` is called after
    each commit; `on_problem` when the journal begins or ceases to refuse commands, or to fail.
    """

    def __init__(self, record: CommandRecord, thread: JournalThread) -> None:
        self._record = record
        self._thread = thread
        self.on_written: Callable[[], None] = _nothing
        self.on_problem: Callable[[], None] = _nothing
        self.connected: Callable[[], bool] = lambda: False
        """Whether a server may be acknowledging output."""
        self._loop = asyncio.get_running_loop()
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.TimerHandle | None = None
        self._output_timer: asyncio.TimerHandle | None = None
        self._slow_timer: asyncio.TimerHandle | None = None
        self._output: dict[str, _WatchedOutput] = {}
        self._untrimmed: dict[str, int] = {}
        """Output to remove, of a commit that failed."""
        self._writing: JournalBatch | None = None
        self._idle = asyncio.Event()
        self._idle.set()
        self._closing = False
        record.unwritten.on_change = self._changed
        record.halt.on_change = partial(self._changed, urgent=True)

    def output_written(self, command_id: str) -> None:
        """Note that a command has new output."""
        held = self._record.get(command_id)
        if held is None or held.control:
            return
        if command_id not in self._output:
            self._output[command_id] = _WatchedOutput(held)
        self._watch_output()

    def restored(self, held: RecordedCommand) -> None:
        """Note that the journal may hold output of a command of an earlier process."""
        self._output[held.command_id] = _WatchedOutput(held, held.window.written, 0)

    def cannot_write(self, problem: Reason) -> None:
        """Note that the journal could not be written when it was opened. It is tried again every RETRY_SECONDS."""
        self._set_problem(problem, failing=True)
        self._commit_within(RETRY_SECONDS)

    async def close(self) -> None:
        """Write what is left, and close the journal. Takes at most CLOSE_SECONDS, whatever the disk does."""
        self._closing = True
        deadline = self._loop.time() + CLOSE_SECONDS
        if self._writing is not None:
            self._idle.clear()
            await finishes(self._idle.wait(), CLOSE_SECONDS)
        if self._record.unwritten or self._record.halt.unwritten or self._output:
            self._commit(all_output=True)
        for handle in (self._soon, self._later, self._output_timer, self._slow_timer):
            if handle:
                handle.cancel()
        if not await self._thread.close(max(0.0, deadline - self._loop.time())):
            logger.warning("left before the journal was closed; its disk is slow")

    def _changed(self, urgent: bool) -> None:
        if urgent and not self._record.journal_failing:
            if self._soon is None and self._writing is None:
                self._soon = self._loop.call_soon(self._commit)
        else:
            self._commit_within(LATER_SECONDS)

    def _commit_within(self, seconds: float) -> None:
        if self._later is None:
            self._later = self._loop.call_later(seconds, self._commit_now)

    def _commit_now(self) -> None:
        # If a commit is under way, its end starts the timer again.
        self._later = None
        self._commit()

    def _commit(self, all_output: bool = False) -> None:
        if self._soon:
            self._soon.cancel()
            self._soon = None
        if self._writing is not None:
            return
        if self._later:
            self._later.cancel()
            self._later = None
        self._write(self._batch(all_output))

    def _write(self, batch: JournalBatch) -> None:
        self._writing = batch
        self._thread.commit(batch, self._committed)
        if self._slow_timer is None:
            self._watch_commit(batch)

    def _watch_commit(self, batch: JournalBatch) -> None:
        # One timer for many commits: one that hangs is noticed after at most twice the time.
        self._slow_timer = self._loop.call_later(SLOW_SECONDS, self._look_at_commit, batch)

    def _look_at_commit(self, watched: JournalBatch) -> None:
        self._slow_timer = None
        if self._writing is None or self._closing:
            return
        if self._writing is watched and self._record.journal_problem is None:
            self._set_problem(_SLOW, failing=False)
        elif self._writing is not watched:
            self._watch_commit(self._writing)

    def _batch(self, all_output: bool) -> JournalBatch:
        commands: list[CommandEntry] = []
        forgotten: list[str] = []
        output: list[OutputEntry] = []
        trimmed = self._take_untrimmed()
        for command_id in self._record.unwritten.take():
            entry = self._record.entry(command_id)
            if entry is None:
                forgotten.append(command_id)
            else:
                commands.append(entry)
            self._settle_output(command_id, entry, output, trimmed)
        if all_output:
            for watched in self._output.values():
                _take_output(watched, watched.held.window.written, output)
        signatures = self._record.signatures.take()
        halt: tuple[str, ...] | None = None
        if self._record.halt.unwritten:
            halt = self._record.halt.take() or ()
        checkpoints = self._record.checkpoints.take()
        return JournalBatch(
            commands, forgotten, output, trimmed, signatures.started, signatures.unstarted, halt, checkpoints
        )

    def _settle_output(
        self, command_id: str, entry: CommandEntry | None, output: list[OutputEntry], trimmed: list[tuple[str, int]]
    ) -> None:
        """With a result, write the output before it; with the end of a command, remove its output."""
        watched = self._output.get(command_id)
        if watched is None:
            return
        held = self._record.get(command_id)
        if held is watched.held:
            if not held.running:
                _take_output(watched, held.window.written, output)
            return
        del self._output[command_id]
        if watched.trimmed >= 0 and entry is not None:
            trimmed.append((command_id, watched.held.window.written))

    def _take_untrimmed(self) -> list[tuple[str, int]]:
        untrimmed, self._untrimmed = self._untrimmed, {}
        return list(untrimmed.items())

    def _committed(self, error: JournalError | None) -> None:
        batch, self._writing = self._writing, None
        self._idle.set()
        try:
            self._settle(batch or JournalBatch(), error)
        finally:
            self._go_on()

    def _settle(self, batch: JournalBatch, error: JournalError | None) -> None:
        if error is None:
            self._record.unwritten.succeeded()
            self._record.halt.succeeded()
            self._set_problem(_NEARLY_FULL if self._thread.fill >= NEARLY_FULL else None, failing=False)
            self.on_written()
        else:
            self._record.unwritten.failed()
            self._record.halt.failed()
            self._record.signatures.failed()
            if batch.checkpoints is not None:
                self._record.checkpoints.failed()
            for command_id, offset in batch.trimmed:
                self._untrimmed[command_id] = max(offset, self._untrimmed.get(command_id, 0))
            for piece in batch.output:
                if watched := self._output.get(piece.command_id):
                    watched.held.window.not_journalled(piece.offset)
            self._set_problem(error.reason, failing=True)

    def _go_on(self) -> None:
        if self._closing:
            return
        urgent = self._record.unwritten.urgent or self._record.halt.unwritten
        if urgent and not self._record.journal_failing:
            self._commit()
        elif self._record.journal_problem is not None:
            # Again even if nothing waits, to learn when there is room.
            self._commit_within(RETRY_SECONDS)
        elif self._record.unwritten:
            self._commit_within(LATER_SECONDS)

    def _set_problem(self, problem: Reason | None, failing: bool) -> None:
        before, failed = self._record.journal_problem, self._record.journal_failing
        self._record.journal_problem, self._record.journal_failing = problem, failing
        if (problem is None, failing) == (before is None, failed):
            return
        if problem is not None:
            logger.error("the journal takes no new commands", reason=problem.code, cause=problem.message)
        elif before is not None:
            logger.info("the journal takes commands again")
        self.on_problem()

    # Output

    def _watch_output(self) -> None:
        if self._output_timer is None and not self._closing:
            seconds = OUTPUT_SECONDS if self.connected() else OFFLINE_OUTPUT_SECONDS
            if self._record.journal_problem is not None:
                # Nothing is written before the problem has passed.
                seconds = RETRY_SECONDS
            self._output_timer = self._loop.call_later(seconds, self._look_at_output)

    def _look_at_output(self) -> None:
        """Write output that nobody has acknowledged since the last look, and remove what was acknowledged."""
        self._output_timer = None
        output: list[OutputEntry] = []
        trimmed: list[tuple[str, int]] = []
        waits = False
        # Near its bound the journal leaves output out: that of a crash is then cut, and results still have room.
        busy = self._writing is not None or self._record.journal_problem is not None
        for command_id, watched in list(self._output.items()):
            window = watched.held.window
            if not busy:
                _take_output(watched, watched.mark if self.connected() else window.written, output)
                watched.mark = window.written
                if 0 <= watched.trimmed < window.acknowledged:
                    watched.trimmed = window.acknowledged
                    trimmed.append((command_id, window.acknowledged))
            waits = waits or window.has_unjournalled
        if output or trimmed:
            self._write(JournalBatch(output=output, trimmed=trimmed))
        if waits:
            self._watch_output()


def _take_output(watched: _WatchedOutput, before: int, output: list[OutputEntry]) -> None:
    pieces = watched.held.window.unjournalled(before)
    if pieces and watched.trimmed < 0:
        watched.trimmed = 0
    output += [OutputEntry(watched.held.command_id, piece.offset, piece.stream, piece.data) for piece in pieces]


def _nothing() -> None:
    pass
