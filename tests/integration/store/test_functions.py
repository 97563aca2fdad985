from __future__ import annotations

import pytest

from distributor.errors import DistributorError
from distributor.store.connection import Connection
from distributor.store.functions import Functions, library_source
from tests.support.store_world import StoreWorld


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


async def test_a_library_of_another_version_stays(world: StoreWorld) -> None:
    """Servers of two versions share a Valkey while one replaces the other."""
    source, version = library_source()
    await world.connection.call("FUNCTION", "LOAD", source.replace(version, "0123abcd"))
    await world.queued()
    libraries = await world.connection.call("FUNCTION", "LIST")
    assert {library[1].decode() for library in libraries} == {"distributor_0123abcd", f"distributor_{version}"}


async def test_every_round_trip_is_observed(valkey_url: str) -> None:
    connection = Connection(valkey_url)
    seen: list[tuple[str, int, float]] = []
    functions = Functions(connection, lambda *call: seen.append(call))
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
