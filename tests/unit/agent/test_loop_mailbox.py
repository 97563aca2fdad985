"""Calls between threads that share wake-ups."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest

from distributor.agent.loop_mailbox import LoopMailbox

SECONDS = 5.0


class CountingLoop:
    """Stands in for a loop: keeps what wakes it until the test runs it."""

    def __init__(self) -> None:
        self.wakeups: list[Callable[[], object]] = []
        self.closed = False

    def call_soon_threadsafe(self, call: Callable[[], object], *, context: contextvars.Context) -> None:
        if self.closed:
            raise RuntimeError("closed")
        self.wakeups.append(lambda: context.run(call))

    def run_once(self) -> None:
        self.wakeups.pop(0)()


@pytest.fixture
def loop() -> CountingLoop:
    return CountingLoop()


@pytest.fixture
def mailbox(loop: Any) -> LoopMailbox:
    return LoopMailbox(loop)


def test_calls_before_the_loop_runs_share_a_wakeup(loop: CountingLoop, mailbox: LoopMailbox) -> None:
    made: list[int] = []
    for number in range(20):
        mailbox.post(partial(made.append, number))
    assert len(loop.wakeups) == 1
    loop.run_once()
    assert made == list(range(20))
    mailbox.post(lambda: made.append(20))
    assert len(loop.wakeups) == 1


def test_a_call_that_posts_another_is_followed_by_it(loop: CountingLoop, mailbox: LoopMailbox) -> None:
    made: list[str] = []
    mailbox.post(lambda: mailbox.post(lambda: made.append("second")))
    while loop.wakeups:
        loop.run_once()
    assert made == ["second"]


def test_calls_after_one_that_raises_are_made(loop: CountingLoop, mailbox: LoopMailbox) -> None:
    made: list[str] = []

    def exits() -> None:
        raise SystemExit(3)

    mailbox.post(exits)
    mailbox.post(lambda: made.append("next"))
    with pytest.raises(SystemExit):
        loop.run_once()
    loop.run_once()
    assert made == ["next"]
    assert not loop.wakeups


def test_a_closed_loop_is_left_alone(loop: CountingLoop, mailbox: LoopMailbox) -> None:
    loop.closed = True
    mailbox.post(lambda: None)


def test_calls_run_in_the_context_of_the_mailbox(loop: CountingLoop) -> None:
    word = contextvars.ContextVar("word", default="none")
    seen: list[str] = []
    word.set("created")
    mailbox = LoopMailbox(loop)  # type: ignore[arg-type]
    word.set("posted")
    mailbox.post(lambda: seen.append(word.get()))
    loop.run_once()
    assert seen == ["created"]


@pytest.fixture
def posting_threads() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for thread in threads:
        thread.join(SECONDS)


async def test_no_call_of_many_threads_is_lost(posting_threads: list[threading.Thread]) -> None:
    mailbox, made, all_made = LoopMailbox(asyncio.get_running_loop()), [0] * 4, asyncio.Event()

    def note(thread: int, number: int) -> None:
        assert made[thread] == number, "in order"
        made[thread] += 1
        if made == [2_000] * 4:
            all_made.set()

    def post(thread: int) -> None:
        for number in range(2_000):
            mailbox.post(partial(note, thread, number))

    for thread in range(4):
        posting_threads.append(threading.Thread(target=post, args=(thread,), daemon=True))
        posting_threads[-1].start()
    async with asyncio.timeout(SECONDS * 4):
        await all_made.wait()
