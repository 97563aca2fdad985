from __future__ import annotations

import asyncio
import io
import selectors
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Literal

import pytest
import uvloop

from distributor.observability.logging import configure_logging
from distributor.observability.loop_watchdog import LoopWatchdog, format_stack
from distributor.observability.watched_loop import WatchedLoop
from distributor.tasks import stop_tasks
from tests.support.own_logs import own_logs
from tests.support.waiting import PATIENCE_SECONDS, until


@asynccontextmanager
async def watched(watchdog: LoopWatchdog) -> AsyncIterator[None]:
    running = asyncio.create_task(watchdog.run())
    await asyncio.sleep(0)
    try:
        yield
    finally:
        await stop_tasks([running])


def hold_the_loop(until: Callable[[], bool]) -> None:
    """Block until the watchdog has seen it, or much too long."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not until() and time.monotonic() < deadline:
        time.sleep(0.001)


async def test_what_blocks_the_loop_is_named() -> None:
    with own_logs() as logs:
        async with watched(LoopWatchdog(0.02)):

            async def offender() -> None:
                hold_the_loop(lambda: bool(logs))

            await asyncio.create_task(offender(), name="the offender")
    (line,) = logs
    assert (line["event"], line["log_level"]) == ("the event loop is blocked", "warning")
    assert (line["task"], line["coroutine"].rpartition(".")[2]) == ("the offender", "offender")
    assert line["where"].startswith(("hold_the_loop (", "<lambda> ("))
    assert line["seconds"] >= 0.02


@pytest.mark.parametrize("log_format", ["json", "console"])
async def test_the_line_can_be_written(log_format: Literal["json", "console"]) -> None:
    """The thread would end with whatever a renderer raises."""
    stream = io.StringIO()
    configure_logging(log_format, "info", stream)
    async with watched(LoopWatchdog(0.02)):
        hold_the_loop(lambda: "the event loop is blocked" in stream.getvalue())
    assert "hold_the_loop (" in stream.getvalue() or "<lambda> (" in stream.getvalue()


async def test_work_without_a_yield_is_seen_as_well_as_sleep(monkeypatch: pytest.MonkeyPatch) -> None:
    """A C function that keeps the interpreter to itself is reported once it lets go."""
    # Other processes may take most of the CPU: with less than half of it, we would count as standing still.
    monkeypatch.setattr("distributor.observability.loop_watchdog.time.process_time", time.monotonic)
    with own_logs() as logs:
        async with watched(LoopWatchdog(0.02)):
            begin = time.monotonic()
            while not logs and time.monotonic() < begin + PATIENCE_SECONDS:
                sorted(range(10_000_000, 0, -1))
    assert logs


async def test_one_long_block_and_several_in_a_row_are_one_line() -> None:
    with own_logs() as logs:
        async with watched(LoopWatchdog(0.02, quiet_seconds=60.0)):
            for _ in range(3):
                time.sleep(0.1)  # noqa: ASYNC251 - blocking the loop is the point
                await asyncio.sleep(0.05)
    assert len(logs) == 1


async def test_the_next_line_counts_what_was_not_reported() -> None:
    watchdog = LoopWatchdog(0.02, quiet_seconds=60.0)
    with own_logs() as logs:
        async with watched(watchdog):
            hold_the_loop(lambda: bool(logs))
            await asyncio.sleep(0.05)
            hold_the_loop(lambda: watchdog._unreported >= 1)
            await asyncio.sleep(0.05)
            watchdog._quiet_until = 0.0
            hold_the_loop(lambda: len(logs) == 2)
    first, second = (line["unreported_before"] for line in logs)
    # A busy machine may hold the loop as well.
    assert first == 0
    assert second >= 1


class CountingSelector(selectors.DefaultSelector):
    """Counts how often its loop goes to sleep."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.count += 1
        return super().select(timeout)


def test_an_idle_loop_is_not_woken() -> None:
    selector = CountingSelector()
    with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(selector)) as runner:

        async def idle() -> int:
            async with watched(LoopWatchdog(0.01)):
                # On a busy machine, the first look may find the loop still at work.
                await asyncio.sleep(0.1)
                before = selector.count
                await asyncio.sleep(0.5)
                return selector.count - before

        assert runner.run(idle()) <= 5, "the watchdog looked about a hundred times"


class Sleepy(LoopWatchdog):
    """Says when its thread goes to sleep, and when it has woken."""

    def __init__(self) -> None:
        super().__init__(0.01)
        self.slept, self.woke = threading.Event(), threading.Event()

    def _sleep(self, loop: asyncio.AbstractEventLoop, thread_id: int) -> None:
        self.slept.set()
        super()._sleep(loop, thread_id)
        self.woke.set()


def test_the_thread_sleeps_while_a_watched_loop_does_and_names_what_blocks_it_afterwards() -> None:
    async def idle() -> None:
        watchdog = Sleepy()
        async with watched(watchdog):
            # Not woken by a timer: the thread wakes the loop.
            await asyncio.to_thread(watchdog.slept.wait, PATIENCE_SECONDS)
            # A busy machine may have held the loop before.
            logs.clear()
            hold_the_loop(lambda: bool(logs))
            assert watchdog.woke.is_set()

    with own_logs() as logs, asyncio.Runner(loop_factory=WatchedLoop) as runner:
        runner.run(idle())
    assert "hold_the_loop (" in logs[0]["where"] or "<lambda> (" in logs[0]["where"]


async def test_a_loop_that_runs_is_not_reported() -> None:
    with own_logs() as logs:
        async with watched(LoopWatchdog(0.2)):
            await asyncio.sleep(0.3)
    assert not logs


@pytest.mark.parametrize("new_loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
async def test_an_idle_loop_whose_answer_is_late_is_not_reported(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    """On a busy machine, the thread of the loop may wait for a CPU longer than that of the watchdog."""
    runner = asyncio.Runner(loop_factory=new_loop)
    loop, ended = runner.get_loop(), asyncio.Event()
    thread = threading.Thread(target=runner.run, args=[ended.wait()])
    thread.start()
    try:
        with own_logs() as logs:

            def is_quiet() -> bool:
                logs.clear()
                watchdog = LoopWatchdog(0.02)
                watchdog._asked_at = time.monotonic() - 1.0
                watchdog._check(time.monotonic(), loop, thread.ident or 0)
                return not logs

            await until(is_quiet)
    finally:
        loop.call_soon_threadsafe(ended.set)
        thread.join()
        loop.close()


async def test_a_process_that_stood_still_is_not_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    """A suspended machine: much time went by at once, and no CPU was used."""
    now = {"monotonic": 0.0}
    watchdog = LoopWatchdog(0.02)
    checks: list[float] = []
    monkeypatch.setattr(watchdog, "_check", lambda at, *_: checks.append(at))
    monkeypatch.setattr("distributor.observability.loop_watchdog.time.monotonic", lambda: now["monotonic"])
    monkeypatch.setattr("distributor.observability.loop_watchdog.time.process_time", lambda: 0.0)

    class Stopped:
        """Wakes after 10 ms, after an hour, and after 10 ms."""

        def __init__(self) -> None:
            self._naps = iter((0.01, 3_600.0, 0.01))

        def wait(self, _: float) -> bool:
            nap = next(self._naps, None)
            now["monotonic"] += nap or 0.0
            return nap is None

    watchdog._watch(asyncio.get_running_loop(), 0, Stopped())  # type: ignore[arg-type]
    assert checks == pytest.approx([0.01, 3_600.02])


def test_a_stack_begins_where_the_thread_is() -> None:
    assert format_stack(sys._getframe()).startswith("test_a_stack_begins_where_the_thread_is (")
    assert format_stack(None) == ""
