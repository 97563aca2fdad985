"""Logs what blocks the event loop: another thread samples the stack of the loop's thread while a tick is overdue."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
import time
import traceback
from collections.abc import Iterable
from functools import partial
from types import FrameType
from typing import Final

from distributor.observability.logging import get_logger

logger = get_logger()

THRESHOLD_SECONDS: Final = 0.1
QUIET_SECONDS: Final = 10.0
_OWN_CODE: Final = "/distributor/"
_IDLE_FILES: Final = ("/selectors.py", "/asyncio/runners.py")
_MAX_FRAMES: Final = 8


class LoopWatchdog:
    """A background loop and a thread. Detects every block of at least 1.5 times the threshold.

    Cancelling `run` also stops the thread. Logs at most one line per `quiet_seconds`.
    """

    def __init__(self, threshold_seconds: float = THRESHOLD_SECONDS, quiet_seconds: float = QUIET_SECONDS) -> None:
        self._threshold_seconds = threshold_seconds
        self._tick_seconds = threshold_seconds / 2
        self._quiet_seconds = quiet_seconds
        self._ticked_at = 0.0
        self._reported_tick = 0.0
        self._quiet_until = 0.0
        self._unreported = 0

    async def run(self) -> None:
        """Tick until cancelled, while the thread watches the ticks."""
        loop, stopped = asyncio.get_running_loop(), threading.Event()
        self._ticked_at = time.monotonic()
        watch = partial(contextvars.copy_context().run, self._watch, loop, threading.get_ident(), stopped)
        threading.Thread(target=watch, name="loop watchdog", daemon=True).start()
        try:
            while True:
                await asyncio.sleep(self._tick_seconds)
                self._ticked_at = time.monotonic()
        finally:
            stopped.set()

    def _watch(self, loop: asyncio.AbstractEventLoop, thread_id: int, stopped: threading.Event) -> None:
        began, cpu_began = time.monotonic(), time.process_time()
        while not stopped.wait(self._tick_seconds):
            now, cpu_now = time.monotonic(), time.process_time()
            overslept = now - began - self._tick_seconds
            # The whole process was suspended, so the loop could not tick. Not a blocked loop.
            paused = overslept > self._threshold_seconds and cpu_now - cpu_began < overslept / 2
            began, cpu_began = now, cpu_now
            if not paused:
                self._check(now, loop, thread_id)

    def _check(self, now: float, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        ticked_at = self._ticked_at
        overdue = now - ticked_at - self._tick_seconds
        if overdue < self._threshold_seconds or ticked_at == self._reported_tick:
            return
        task, frame = asyncio.current_task(loop), sys._current_frames().get(thread_id)
        if task is None and _idle(frame):
            # The loop waits for events: its thread was not given a CPU in time.
            return
        self._reported_tick = ticked_at
        if now < self._quiet_until:
            self._unreported += 1
            return
        logger.warning(
            "the event loop is blocked",
            seconds=round(overdue, 2),
            task=task.get_name() if task is not None else "",
            coroutine=getattr(task.get_coro(), "__qualname__", "") if task is not None else "",
            where=format_stack(frame),
            unreported_before=self._unreported,
        )
        self._quiet_until, self._unreported = now + self._quiet_seconds, 0


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
