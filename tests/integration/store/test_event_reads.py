"""How often the event stream is read while many changes are made."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from types import SimpleNamespace
from typing import Any, Final

import pytest

from distributor.model.event import EventBatch
from distributor.store import event_log, keys
from distributor.store.event_log import ValkeyEventLog
from distributor.store.valkey_connection import Argument, ValkeyConnection
from tests.support.store_world import StoreWorld
from tests.support.waiting import PATIENCE_SECONDS

BURST: Final = 100


class CountedConnection(ValkeyConnection):
    """Notes how many entries each XREAD returned."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.entries: list[int] = []

    async def call(self, *arguments: Argument) -> Any:
        reply = await super().call(*arguments)
        if arguments[0] == "XREAD" and reply:
            self.entries.append(len(reply[0][1]))
        return reply


@pytest.fixture
async def connection(valkey_url: str) -> AsyncIterator[CountedConnection]:
    connection = CountedConnection(valkey_url)
    yield connection
    await connection.close()


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The pauses of the reader so far, which take no time."""
    return pausing(monkeypatch, lambda: asyncio.sleep(0))


def pausing(monkeypatch: pytest.MonkeyPatch, pause: Callable[[], Awaitable[None]]) -> list[float]:
    """Let each pause of the reader be `pause`, and return the list of those asked for."""
    asked: list[float] = []

    async def sleep(seconds: float) -> None:
        asked.append(seconds)
        await pause()

    monkeypatch.setattr(event_log, "asyncio", SimpleNamespace(sleep=sleep))
    return asked


@asynccontextmanager
async def tailing(world: StoreWorld, connection: ValkeyConnection) -> AsyncIterator[AsyncIterator[EventBatch]]:
    """What follows in the event stream."""
    log = ValkeyEventLog(connection, shard=world.shard)
    tail = log.tail(await log.last_position())
    async with aclosing(tail), asyncio.timeout(PATIENCE_SECONDS):
        yield tail


async def write(world: StoreWorld, changes: int) -> None:
    """Make changes, one after the other."""
    for number in range(changes):
        await world.connection.call("XADD", keys.EVENTS, "*", "origin", f"r{number}")


async def test_a_burst_is_read_in_two_replies(
    world: StoreWorld, connection: CountedConnection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first reply has what was there; all that is written while the reader pauses is in the second."""
    monkeypatch.setattr(event_log, "BUSY_INTERVAL_SECONDS", math.inf)
    async with tailing(world, connection) as tail, asyncio.TaskGroup() as tasks:
        burst = tasks.create_task(write(world, BURST))

        async def until_written() -> None:
            await burst

        pauses = pausing(monkeypatch, until_written)
        read = [await anext(tail) for _ in range(BURST)]
    assert [batch.origin for batch in read] == [f"r{number}" for number in range(BURST)]
    assert sum(connection.entries) == BURST
    assert len(connection.entries) <= 2, "replies with entries"
    assert pauses == [event_log.BUSY_PAUSE_SECONDS] * len(connection.entries)


async def test_changes_far_apart_are_read_without_a_pause(
    world: StoreWorld, connection: CountedConnection, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(event_log, "BUSY_INTERVAL_SECONDS", 0.0)
    async with tailing(world, connection) as tail:
        for _ in range(5):
            await write(world, 1)
            await anext(tail)
    assert connection.entries == [1] * 5
    assert pauses == []


@pytest.mark.parametrize(("apart", "pauses_of_five"), [(0.019, 4), (0.021, 0)])
async def test_replies_that_follow_within_20_ms_are_a_sign_of_load(
    world: StoreWorld,
    connection: CountedConnection,
    pauses: list[float],
    monkeypatch: pytest.MonkeyPatch,
    apart: float,
    pauses_of_five: int,
) -> None:
    now = 1_000.0
    monkeypatch.setattr(event_log, "time", SimpleNamespace(monotonic=lambda: now))
    async with tailing(world, connection) as tail:
        for _ in range(5):
            now += apart
            await write(world, 1)
            await anext(tail)
    assert len(pauses) == pauses_of_five


def test_a_pause_takes_a_few_milliseconds() -> None:
    assert 0.001 <= event_log.BUSY_PAUSE_SECONDS <= 0.01
