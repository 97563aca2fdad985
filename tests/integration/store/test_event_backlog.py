"""How many entries of the event stream a reader is behind, by a Valkey that counts them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest

from distributor.model.event import EventBatch
from distributor.model.position import BEGINNING
from distributor.store import keys
from distributor.store.event_log import ValkeyEventLog
from tests.support.store_world import StoreWorld


class Reader:
    """Reads as far as a test says."""

    def __init__(self, world: StoreWorld) -> None:
        self.world = world
        self.log = ValkeyEventLog(world.connections.events, world.connections.reads, shard=world.shard)
        self._tail: AsyncIterator[EventBatch] | None = None

    async def begin(self, position: str) -> None:
        self._tail = self.log.tail(position)

    async def read(self, entries: int) -> list[EventBatch]:
        assert self._tail is not None
        return [await anext(self._tail) for _ in range(entries)]

    async def behind(self) -> int:
        return await self.log.behind()


@pytest.fixture
async def reader(world: StoreWorld) -> AsyncIterator[Reader]:
    reader = Reader(world)
    yield reader
    if reader._tail is not None:
        async with aclosing(reader._tail):  # type: ignore[type-var]
            pass


async def write(world: StoreWorld, entries: int) -> None:
    for number in range(entries):
        await world.connection.call("XADD", keys.EVENTS, "*", "origin", f"r{number}")


async def test_a_reader_that_has_not_begun_is_not_behind(world: StoreWorld, reader: Reader) -> None:
    assert await reader.behind() == 0
    await write(world, 3)
    assert await reader.behind() == 0


async def test_each_entry_counts_until_it_is_read(world: StoreWorld, reader: Reader) -> None:
    await write(world, 2)
    await reader.begin(await reader.log.last_position())
    await write(world, 5)
    assert [len(await reader.read(1)), await reader.behind()] == [1, 4]
    await reader.read(4)
    assert await reader.behind() == 0
    await write(world, 3)
    assert await reader.behind() == 3
    await reader.read(2)
    assert await reader.behind() == 1


async def test_more_than_a_page_is_counted_by_a_reader_that_was_up_to_date_once(
    world: StoreWorld, reader: Reader
) -> None:
    await reader.begin(BEGINNING)
    await write(world, 1)
    await reader.read(1)
    assert await reader.behind() == 0
    await write(world, 1_500)
    assert await reader.behind() == 1_500
    await reader.read(300)
    assert await reader.behind() == 1_200


async def test_all_that_is_kept_counts_for_a_reader_left_behind_by_trimming(world: StoreWorld, reader: Reader) -> None:
    await write(world, 1)
    await reader.begin(BEGINNING)
    await reader.read(1)
    await write(world, 20)
    await world.connection.call("XTRIM", keys.EVENTS, "MAXLEN", 5)
    assert await reader.behind() == 5


async def test_an_emptied_valkey_leaves_nothing_behind(world: StoreWorld, reader: Reader) -> None:
    await write(world, 3)
    await reader.begin(BEGINNING)
    await reader.read(2)
    await world.connection.call("DEL", keys.EVENTS)
    assert await reader.behind() == 0
