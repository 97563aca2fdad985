from __future__ import annotations

import asyncio
import time
from types import SimpleNamespace
from typing import Any, cast

import pytest

from distributor.errors import DistributorError, Unavailable
from distributor.store.reply_pipeline import Exchange, ReplyPipeline
from tests.support.waiting import until


class FakeTransport:
    """Remembers what was written. Full after `room` writes."""

    def __init__(self) -> None:
        self.written: list[bytes] = []
        self.room = 1_000
        self.closing = False
        self.protocol: ReplyPipeline

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if len(self.written) == self.room:
            self.protocol.pause_writing()

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


class World:
    """A pipeline over a fake transport, and what it reported."""

    def __init__(self, timeout: float = 10.0) -> None:
        self.transport = FakeTransport()
        self.reports: list[str] = []
        self.pipeline = ReplyPipeline(
            cast(asyncio.StreamWriter, SimpleNamespace(transport=self.transport)),
            timeout,
            lambda: self.reports.append("writable"),
            lambda _: self.reports.append("lost"),
        )
        self.transport.protocol = self.pipeline

    def send(self, packed: bytes, count: int = 1) -> asyncio.Future[list[Any]]:
        result: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        assert self.pipeline.send(Exchange(packed, count, result))
        return result

    def refuses(self) -> bool:
        return not self.pipeline.send(Exchange(b"x", 1, asyncio.get_running_loop().create_future()))


async def test_replies_arrive_in_any_pieces() -> None:
    replies = b"+OK\r\n$3\r\nabc\r\n-ERR no\r\n*2\r\n:1\r\n$-1\r\n:7\r\n"
    for size in (1, 2, 5, len(replies)):
        world = World()
        first, second = world.send(b"first", 3), world.send(b"second", 2)
        for start in range(0, len(replies), size):
            world.pipeline.data_received(replies[start : start + size])
        assert world.transport.written == [b"first", b"second"]
        ok, text, error = await first
        assert (ok, text) == (b"OK", b"abc")
        assert isinstance(error, DistributorError)
        assert str(error).endswith("no")
        assert await second == [[1, None], 7]


async def test_replies_of_a_cancelled_exchange_are_dropped() -> None:
    world = World()
    first, second = world.send(b"first"), world.send(b"second")
    first.cancel()
    world.pipeline.data_received(b":1\r\n:2\r\n")
    assert await second == [2]


@pytest.mark.parametrize("data", [b":1\r\n:2\r\n", b"hello\r\n"], ids=["one too many", "no protocol"])
async def test_what_cannot_be_matched_ends_the_connection(data: bytes) -> None:
    world = World()
    world.send(b"first").cancel()
    world.pipeline.data_received(data)
    assert world.reports == ["lost"]
    assert world.transport.closing
    assert world.refuses()


async def test_a_loss_ends_all_that_wait_once() -> None:
    world = World()
    waiting = [world.send(b"x") for _ in range(3)]
    world.pipeline.data_received(b":1\r\n")
    world.pipeline.eof_received()
    world.pipeline.connection_lost(None)
    assert await waiting[0] == [1]
    for result in waiting[1:]:
        with pytest.raises(Unavailable, match="closed the connection"):
            await result
    assert world.reports == ["lost"]
    await world.pipeline.close()


async def test_it_takes_nothing_while_the_transport_is_full_or_closing() -> None:
    world = World()
    world.transport.room = 2
    results = [world.send(b"1"), world.send(b"2")]
    assert world.refuses()
    world.pipeline.resume_writing()
    assert world.reports == ["writable"]
    results.append(world.send(b"3"))
    world.transport.closing = True
    assert world.refuses()
    assert world.transport.written == [b"1", b"2", b"3"]
    world.pipeline.connection_lost(None)
    for result in results:
        with pytest.raises(Unavailable):
            await result


async def test_only_an_overdue_reply_ends_the_connection() -> None:
    world = World(timeout=0.5)
    for _ in range(3):
        answered = world.send(b"x")
        await asyncio.sleep(0.2)
        world.pipeline.data_received(b":1\r\n")
        await answered
    late = world.send(b"x")
    with pytest.raises(Unavailable, match=r"no reply within 0\.5 s"):
        await late
    assert world.reports == ["lost"]


async def test_replies_that_came_while_the_loop_was_blocked_are_read_first() -> None:
    world = World(timeout=0.01)
    result = world.send(b"x")
    timer = world.pipeline._timer
    assert timer is not None
    time.sleep(0.02)  # noqa: ASYNC251 - the blocked loop is what is tested
    timer.cancel()
    world.pipeline._check_oldest()
    world.pipeline.data_received(b":1\r\n")
    assert await result == [1]
    assert not world.reports


async def test_no_timer_is_left_when_nothing_waits() -> None:
    world = World(timeout=0.01)
    result = world.send(b"x")
    world.pipeline.data_received(b":1\r\n")
    await result
    await until(lambda: world.pipeline._timer is None)
    assert not world.reports
