"""Logs what blocks the event loop: another thread samples the stack of the loop's thread while an answer is overdue.

The thread asks the loop for an answer only if it finds it at work. So an idle loop is never woken. The thread itself
sleeps while a WatchedLoop does; beside another loop it looks twice in each threshold.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Final

from distributor.observability.logging import get_logger
from distributor.observability.watched_loop import WatchedLoop

logger = get_logger()

THRESHOLD_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 10.0
IDLE_LOOKS: Final = 10
"""Looks that find an idle loop, in a row, before the thread sleeps until the loop wakes."""
_OWN_CODE: Final = "/distributor/"
_IDLE_FILES: Final = ("/selectors.py", "/asyncio/runners.py")
_MAX_FRAMES: Final = 8


class LoopWatchdog:
    """A background task and a thread. Detects every block of at least 1.5 times the threshold.

    Cancelling `run` also stops the thread. Logs at most one line per `quiet_seconds`.
    """

    def __init__(self, threshold_seconds: float = THRESHOLD_SECONDS, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._threshold_seconds = threshold_seconds
        self._sample_seconds = threshold_seconds / 2
        self._quiet_seconds = quiet_seconds
        self._asked_at: float | None = None
        """When the thread asked the loop for the answer that it waits for; None if it waits for none."""
        self._reported = False
        """Whether the block that delays this answer was reported."""
        self._idle_looks = 0
        self._woken = threading.Event()
        """Set while the thread must look at the loop."""
        self._quiet_until = 0.0
        self._unreported = 0

    async def run(self) -> None:
        """Let the thread watch until cancelled."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        self._woken.set()
        if isinstance(loop, WatchedLoop):
            loop.waking.on_wake = self._wake
        watch = partial(contextvars.copy_context().run, self._watch, loop, threading.get_ident(), stopped)
        threading.Thread(target=watch, name="loop watchdog", daemon=True).start()
        try:
            await loop.create_future()
        finally:
            stopped.set()
            self._woken.set()
            if isinstance(loop, WatchedLoop):
                loop.waking.on_wake = None

    def _wake(self) -> None:
        if not self._woken.is_set():
            self._woken.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int, stopped: threading.Event) -> None:
        began, cpu_began = time.monotonic(), time.process_time()
        while not stopped.wait(self._sample_seconds):
            now, cpu_now = time.monotonic(), time.process_time()
            overslept = now - began - self._sample_seconds
            # The whole process was suspended, so the loop could not answer. Not a blocked loop.
            paused = overslept > self._threshold_seconds and cpu_now - cpu_began < overslept / 2
            began, cpu_began = now, cpu_now
            if not paused:
                self._check(now, loop, thread_id)
            if self._idle_looks >= IDLE_LOOKS and isinstance(loop, WatchedLoop):
                self._sleep(loop, thread_id)
                began, cpu_began = time.monotonic(), time.process_time()

    def _sleep(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        """Wait until the loop wakes."""
        self._woken.clear()
        # It may have woken since the last look, before it could notice that the thread goes to sleep.
        if _is_idle(loop, thread_id):
            self._woken.wait()
        self._idle_looks = 0

    def _check(self, now: float, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        asked_at = self._asked_at
        if asked_at is not None and (self._reported or now - asked_at < self._threshold_seconds):
            return
        if _is_idle(loop, thread_id):
            # The loop waits for events. If an answer is due, its thread was not given a CPU in time.
            self._idle_looks += 1
            return
        self._idle_looks = 0
        if asked_at is None:
            self._ask(now, loop)
            return
        task, frame = asyncio.current_task(loop), sys._current_frames().get(thread_id)
        self._reported = True
        if now < self._quiet_until:
            self._unreported += 1
            return
        logger.warning(
            "the event loop is blocked",
            seconds=round(now - asked_at, 2),
            task=task.get_name() if task is not None else "",
            coroutine=getattr(task.get_coro(), "__qualname__", "") if task is not None else "",
            where=format_stack(frame),
            unreported_before=self._unreported,
        )
        self._quiet_until, self._unreported = now + self._quiet_seconds, 0

    def _ask(self, now: float, loop: asyncio.AbstractEventLoop) -> None:
        self._asked_at, self._reported = now, False
        # The loop may have been closed meanwhile.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(self._answer)

    def _answer(self) -> None:
        self._asked_at = None


def _is_idle(loop: asyncio.AbstractEventLoop, thread_id: int) -> bool:
    return asyncio.current_task(loop) is None and _idle(sys._current_frames().get(thread_id))


def _idle(frame: FrameType | None) -> bool:
    """Return whether the innermost Python frame is that of a loop without a callback: asyncio's select, or uvloop."""
    if frame is None:
        return True
    code = frame.f_code
    return code.co_filename.endswith(_IDLE_FILES) and code.co_name in ("select", "run")


def format_stack(frame: FrameType | None) -> str:
    """Format a stack, innermost frame first; of the outer frames, only those in our own code."""
    frames = [] if frame is None else traceback.StackSummary.extract(traceback.walk_stack(frame))
    return " < ".join([_format_frame(entry) for entry in _relevant(frames)][:_MAX_FRAMES])


def _relevant(frames: Iterable[traceback.FrameSummary]) -> Iterable[traceback.FrameSummary]:
    for place, entry in enumerate(frames):
        if place == 0 or _OWN_CODE in entry.filename:
            yield entry


def _format_frame(entry: traceback.FrameSummary) -> str:
    _, own, path = entry.filename.rpartition(_OWN_CODE)
    return f"{entry.name} ({path if own else entry.filename}:{entry.lineno})"
