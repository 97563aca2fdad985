from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError, DistributorError, ResourceExhausted, Unavailable
from distributor.model.lifecycle import CommandStatus
from distributor.store.connections import StoreConnections
from distributor.store.embedded import EmbeddedValkey
from distributor.store.valkey_check import check_server
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.answering_server import answering
from tests.support.store_world import StoreWorld, completion


@pytest.fixture
async def own(tmp_path: Path) -> AsyncIterator[StoreWorld]:
    """A store on a Valkey of its own, to set up as one likes."""
    async with EmbeddedValkey(tmp_path) as valkey:
        connections = StoreConnections.to(valkey.url)
        try:
            yield StoreWorld(connections)
        finally:
            await connections.close()


@pytest.mark.parametrize(
    "url", ["", "localhost:6379", "http://localhost:6379", "valkey://localhost:port", "valkey://localhost:1/x?db=z"]
)
def test_a_url_that_is_none(url: str) -> None:
    with pytest.raises(ConfigurationError, match="valkey_url is not a Valkey address") as caught:
        ValkeyConnection(url)
    assert caught.value.field == "valkey_url"


def test_a_password_is_never_shown() -> None:
    with pytest.raises(ConfigurationError) as caught:
        ValkeyConnection("http://user:secret@host/0")
    assert "secret" not in str(caught.value)
    assert ValkeyConnection("valkey://user:s@cr@t@host:1/0").shown_url == "valkey://host:1/0"


async def test_a_valkey_that_is_away(tmp_path: Path, port: int) -> None:
    for url in (f"valkey://127.0.0.1:{port}", f"unix://{tmp_path}/none.sock"):
        connection = ValkeyConnection(url)
        for attempt in (connection.call("PING"), connection.calls([("PING",)])):
            with pytest.raises(Unavailable, match="Valkey is away") as caught:
                await attempt
            assert caught.value.reason == "STORE_UNAVAILABLE"
            assert caught.value.retry_after_seconds
        await connection.close()


async def test_it_is_reached_again_once_it_is_back(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    async with valkey:
        connection = ValkeyConnection(valkey.url)
        await connection.call("SET", "key", "value")
    with pytest.raises(Unavailable):
        await connection.call("GET", "key")
    async with valkey:
        assert await connection.call("GET", "key") == b"value"
    await connection.close()


async def test_a_wrong_password(shared_valkey_url: str) -> None:
    scheme, _, rest = shared_valkey_url.partition("://")
    connection = ValkeyConnection(f"{scheme}://:wrong@{rest.rpartition('@')[2]}")
    with pytest.raises(Unavailable, match="refuses our credentials"):
        await connection.call("PING")
    await connection.close()


async def test_a_reply_that_does_not_come(shared_valkey_url: str) -> None:
    connection = ValkeyConnection(shared_valkey_url, reply_timeout_seconds=1.5)
    with pytest.raises(Unavailable, match="Valkey is away"):
        await connection.call("BLPOP", "nothing", 60)
    assert await connection.call("PING") in (b"PONG", True)
    await connection.close()


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
async def test_a_valkey_that_evicts_keys_is_refused_by_name(own: StoreWorld, policy: str) -> None:
    await check_server(own.connection)
    await own.connection.call("CONFIG", "SET", "maxmemory-policy", policy)
    with pytest.raises(ConfigurationError, match=f"maxmemory-policy is {policy}.*set .* to noeviction") as caught:
        await check_server(own.connection)
    assert (caught.value.reason, caught.value.field) == ("VALKEY_EVICTS", "valkey_url")


async def test_a_full_valkey_takes_no_more_commands_but_lets_those_it_has_end(own: StoreWorld) -> None:
    commands = [await own.acknowledged(), await own.assigned()]
    waiting = await own.queued()
    await own.connection.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ResourceExhausted, match="no memory left") as caught:
        await own.queued()
    assert caught.value.reason == "STORE_FULL"
    with pytest.raises(ResourceExhausted):
        await own.print_output(commands[0], 0, b"output")
    assert len((await own.claim()).commands) == 1
    assert await own.store.finish([completion(command_id) for command_id in commands]) == ["stored", "stored"]
    assert await own.store.cancel(waiting, "") is not None
    await own.attach()
    await own.store.due([0])
    await own.store.forget("")
    states = await own.reader.states([*commands, waiting])
    assert [state.status for state in states if state] == [
        CommandStatus.COMPLETED,
        CommandStatus.COMPLETED,
        CommandStatus.CANCELLED,
    ]


@pytest.mark.parametrize(
    "reply",
    [
        b"-LOADING Valkey is loading the dataset in memory\r\n",
        b"-READONLY You can't write against a read only replica.\r\n",
        b"-MASTERDOWN Link with MASTER is down\r\n",
        b"-BUSY Valkey is busy running a script.\r\n",
        b"-CLUSTERDOWN The cluster is down\r\n",
        b"-TRYAGAIN Multiple keys request during rehashing of slot\r\n",
        b"-MISCONF Valkey is configured to save RDB snapshots, but it's currently unable to persist to disk.\r\n",
        b"-NOREPLICAS Not enough good replicas to write.\r\n",
        b"-NOAUTH Authentication required.\r\n",
    ],
)
async def test_a_valkey_that_cannot_serve_now(reply: bytes) -> None:
    async with answering(reply) as connection:
        for attempt in (connection.call("GET", "x"), connection.calls([("GET", "x")])):
            with pytest.raises(Unavailable) as caught:
                await attempt
            assert caught.value.reason == "STORE_UNAVAILABLE"


async def test_memory_that_ran_out(shared_valkey_url: str) -> None:
    async with answering(b"-OOM command not allowed when used memory > 'maxmemory'.\r\n") as connection:
        for attempt in (connection.call("SET", "x", 1), connection.calls([("SET", "x", 1)])):
            with pytest.raises(ResourceExhausted):
                await attempt


async def test_any_other_refusal_is_ours_to_mend(world: StoreWorld) -> None:
    await world.connection.call("SET", "text", "x")
    for attempt in (world.connection.call("LPUSH", "text", "y"), world.connection.calls([("LPUSH", "text", "y")])):
        with pytest.raises(DistributorError, match="WRONGTYPE") as caught:
            await attempt
        assert type(caught.value) is DistributorError


async def test_replies_that_travel_together_come_in_order(world: StoreWorld) -> None:
    replies = await world.connection.calls([("SET", "a", b"\xff"), ("GET", "a"), ("GET", "b")])
    assert replies[1:] == [b"\xff", None]
