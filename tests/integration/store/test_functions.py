from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from distributor.errors import DistributorError, ResourceExhausted
from distributor.model.event import CommandChanged
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from distributor.store.embedded import EmbeddedValkey
from distributor.store.functions import FOLDER, Functions, library_source
from distributor.store.keys import lua_prelude
from distributor.store.pipelined_connection import PipelinedConnection
from tests.support.store_world import StoreWorld
from tests.support.waiting import until


@pytest.fixture(autouse=True)
async def _no_functions(world: StoreWorld) -> None:
    await world.connection.call("FUNCTION", "FLUSH")


async def test_a_valkey_that_has_forgotten_the_library_is_given_it_again(world: StoreWorld) -> None:
    await world.functions.load()
    await world.connection.call("FUNCTION", "FLUSH")
    command_id = await world.queued()
    assert (await world.state(command_id)).command_id == command_id


async def test_loading_twice_is_harmless(world: StoreWorld) -> None:
    await world.functions.load()
    await world.functions.load()
    (library,) = await world.connection.call("FUNCTION", "LIST")
    assert library[1].decode() == f"distributor_{library_source()[1]}"


async def test_a_full_valkey_that_has_the_library_is_not_asked_to_take_it_again(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        connection = PipelinedConnection(valkey.url)
        await Functions(connection).load()
        await connection.call("CONFIG", "SET", "maxmemory", 1)
        await Functions(connection).load()
        await Functions(connection).check_writable()
        await connection.call("FUNCTION", "FLUSH")
        with pytest.raises(ResourceExhausted):
            await Functions(connection).load()
        await connection.close()


async def test_a_library_of_another_version_stays(world: StoreWorld) -> None:
    """Servers of two versions share a Valkey while one replaces the other."""
    source, version = library_source()
    await world.connection.call("FUNCTION", "LOAD", source.replace(version, "0123abcd"))
    await world.queued()
    libraries = await world.connection.call("FUNCTION", "LIST")
    assert {library[1].decode() for library in libraries} == {"distributor_0123abcd", f"distributor_{version}"}


async def test_every_round_trip_is_observed(valkey_url: str) -> None:
    connection = PipelinedConnection(valkey_url)
    seen: list[tuple[str, int, float]] = []
    functions = Functions(connection)
    functions.observe = lambda *call: seen.append(call)
    try:
        await functions.call("heartbeat", [1_000, "a", 1, "b", 1], items=2)
    finally:
        await connection.close()
    ((name, items, seconds),) = seen
    assert (name, items) == ("heartbeat", 2)
    assert 0 < seconds < 10


async def test_a_call_that_fails_says_so(world: StoreWorld) -> None:
    await world.attach("a")
    with pytest.raises(DistributorError, match="Valkey refused a call") as caught:
        await world.functions.call("heartbeat", ["not a number", "a", 1])
    assert caught.value.reason == "STORE_ERROR"


DATE_FUNCTION = """
register_reader('date', function(args)
  local dates = {}
  for n, ms in ipairs(args) do dates[n] = rfc3339(tonumber(ms)) end
  return dates
end)
"""


async def test_dates_that_the_functions_write(world: StoreWorld) -> None:
    """Each day of five years, the leap day of 2000, and the one that 2100 does not have, at odd milliseconds."""
    shared = (FOLDER / "_shared.lua").read_text()
    library = f"#!lua name=dates\nlocal VERSION = 'dates'\n{lua_prelude()}{shared}{DATE_FUNCTION}"
    await world.connection.call("FUNCTION", "LOAD", library)
    noon = datetime(2024, 1, 1, 12, 34, 56, 7_000, tzinfo=UTC)
    moments = [noon + timedelta(days=day, milliseconds=day) for day in range(5 * 366)]
    for year, month, day in ((1970, 1, 1), (2000, 2, 29), (2100, 2, 28), (2100, 3, 1), (2399, 12, 31)):
        moments.append(datetime(year, month, day, 23, 59, 59, 999_000, tzinfo=UTC))
    arguments = [round(moment.timestamp() * 1000) for moment in moments]
    dates = await world.connection.call("FCALL", "date_dates", 1, keys.EVENTS, *arguments)
    expected = [moment.isoformat(timespec="milliseconds").replace("+00:00", "Z") for moment in moments]
    assert [date.decode() for date in dates] == expected


async def test_what_a_caller_has_changed_is_reported_although_it_does_not_wait(world: StoreWorld) -> None:
    await world.functions.load()
    command_id = await world.queued()
    reported = len(world.told)
    cancelling = asyncio.ensure_future(world.store.cancel(command_id, "changed my mind"))
    await asyncio.sleep(0)
    cancelling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelling
    await until(lambda: len(world.told) > reported)
    (event,) = world.told[-1].events
    assert isinstance(event, CommandChanged)
    assert (event.command_id, event.status) == (command_id, CommandStatus.CANCELLED)
