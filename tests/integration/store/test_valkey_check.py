"""A Valkey that cannot keep commands is refused with cause and remedy."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.errors import ConfigurationError
from distributor.store.connections import StoreConnections
from distributor.store.embedded import EmbeddedValkey
from distributor.store.functions import Functions
from distributor.store.valkey_check import check_server, load_functions
from distributor.store.valkey_connection import ValkeyConnection
from tests.support.answering_server import answering

GOOD = {"redis_version": "7.2.4", "valkey_version": "9.1.0", "cluster_enabled": "0", "maxmemory_policy": "noeviction"}


@pytest.fixture
async def connections(tmp_path: Path) -> AsyncIterator[StoreConnections]:
    """A Valkey of its own, to set up as one likes."""
    async with EmbeddedValkey(tmp_path) as valkey:
        connections = StoreConnections.to(valkey.url)
        yield connections
        await connections.close()


def info(**changed: str) -> bytes:
    """A reply to INFO."""
    lines = "".join(f"{name}:{value}\r\n" for name, value in {**GOOD, **changed}.items())
    return f"${len(lines)}\r\n{lines}\r\n".encode()


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "Protocol error.*; no Valkey answers there: check host and port"),
        (b"", "; no Valkey answers there, or it wants TLS"),
        (b"-NOAUTH Authentication required.\r\n", "Authentication required; put the password into valkey_url: valkey:"),
        (
            b"-NOPERM User weak has no permissions to run the 'info' command\r\n",
            "; distributor valkey-acl prints",
        ),
        (info(redis_version="6.2.7", valkey_version=""), "is version 6.2.7; Valkey 7.2 or newer is needed"),
        (info(cluster_enabled="1"), "runs in cluster mode, which is not supported"),
        (info(maxmemory_policy="volatile-ttl"), "maxmemory-policy is volatile-ttl.*set maxmemory-policy to noeviction"),
    ],
)
async def test_what_is_no_valkey_for_us_is_refused_with_a_remedy(reply: bytes, message: str) -> None:
    async with answering(reply) as connection:
        with pytest.raises(ConfigurationError, match=message) as caught:
            await check_server(connection)
        assert connection.shown_url in caught.value.message
        assert caught.value.field == "valkey_url"
        assert caught.value.reason in {"VALKEY_UNUSABLE", "VALKEY_EVICTS"}
        assert "\n" not in caught.value.message


async def test_one_that_does_not_answer() -> None:
    async with answering(b"$") as connection:
        with pytest.raises(ConfigurationError, match=r"Timeout.*; no Valkey answers there, or TLS is on at"):
            await check_server(connection)


async def test_a_good_one_passes(connections: StoreConnections) -> None:
    await check_server(connections.reads)
    await load_functions(connections.reads, Functions(connections.functions))
    async with answering(info()) as connection:
        await check_server(connection)


async def test_a_replica_cannot_take_the_functions(connections: StoreConnections) -> None:
    await connections.reads.call("REPLICAOF", "127.0.0.1", 1)
    await check_server(connections.reads)
    with pytest.raises(ConfigurationError, match="read only replica; name its primary in valkey_url"):
        await load_functions(connections.reads, Functions(connections.functions))


async def test_a_full_one_cannot_take_the_functions(connections: StoreConnections) -> None:
    await connections.reads.call("CONFIG", "SET", "maxmemory", 1)
    with pytest.raises(ConfigurationError, match=re.escape("'maxmemory'; it is full: raise its maxmemory")):
        await load_functions(connections.reads, Functions(connections.functions))


async def test_a_wrong_password(shared_valkey_url: str) -> None:
    scheme, _, rest = shared_valkey_url.partition("://")
    connection = ValkeyConnection(f"{scheme}://:wrong@{rest.rpartition('@')[2]}")
    with pytest.raises(ConfigurationError, match="; check user and password in valkey_url"):
        await check_server(connection)
    await connection.close()


async def test_nothing_listens(port: int, tmp_path: Path) -> None:
    for url, remedy in (
        (f"valkey://127.0.0.1:{port}", "; start it, or check host and port"),
        (f"unix://{tmp_path}/none.sock", "No such file or directory; start it, or check the path of its socket"),
    ):
        connection = ValkeyConnection(url)
        with pytest.raises(ConfigurationError, match=f"cannot use the Valkey at {url}: .*{remedy}"):
            await check_server(connection)
        await connection.close()
