from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from distributor.app.lifespan import Lifespan
from tests.support.own_logs import own_logs


class Diary:
    """Parts that write down what becomes of them."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    async def step(self, name: str) -> None:
        self.lines.append(name)

    @asynccontextmanager
    async def part(self, name: str) -> AsyncIterator[str]:
        self.lines.append(f"{name} begins")
        yield name
        self.lines.append(f"{name} ends")


async def hang() -> None:
    await asyncio.Event().wait()


async def fail() -> None:
    raise RuntimeError("it failed")


async def test_what_began_last_is_stopped_first() -> None:
    diary = Diary()
    async with Lifespan() as process:
        assert await process.enter("store", diary.part("store")) == "store"
        process.on_stop("callers", lambda: diary.step("callers sent away"))
    assert diary.lines == ["store begins", "callers sent away", "store ends"]


async def test_a_start_that_fails_leaves_nothing() -> None:
    diary = Diary()

    async def start() -> None:
        async with Lifespan() as process:
            await process.enter("store", diary.part("store"))
            await fail()

    with pytest.raises(RuntimeError, match="it failed"):
        await start()
    assert diary.lines == ["store begins", "store ends"]


async def test_a_step_that_hangs_is_named_and_left() -> None:
    diary, process = Diary(), Lifespan(step_seconds=0.01)
    process.on_stop("first", lambda: diary.step("first stopped"))
    process.on_stop("second", hang, grace_seconds=0.01)
    with own_logs() as logs:
        await process.stop()
    assert diary.lines == ["first stopped"]
    assert [(line["event"], line["step"], line["seconds"]) for line in logs] == [
        ("shutdown step timed out, continuing", "second", 0.02)
    ]


async def test_a_step_that_fails_keeps_no_other_from_being_done() -> None:
    diary, process = Diary(), Lifespan()
    process.on_stop("first", lambda: diary.step("first stopped"))
    process.on_stop("second", fail)
    with pytest.raises(RuntimeError, match="it failed"):
        await process.stop()
    assert diary.lines == ["first stopped"]


async def test_loops_run_until_one_fails_and_end_when_it_stops() -> None:
    process, ended = Lifespan(), asyncio.Event()

    async def for_ever() -> None:
        try:
            await hang()
        finally:
            ended.set()

    process.start_loops({"for ever": for_ever, "failing": fail})
    with pytest.raises(RuntimeError, match="it failed"):
        await process.run()
    assert not ended.is_set()
    await process.stop()
    assert ended.is_set()
