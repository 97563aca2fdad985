from __future__ import annotations

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from valkey.asyncio import Valkey

from distributor.errors import ConfigurationError, DistributorError, ResourceExhausted, Unavailable
from distributor.store.embedded import EmbeddedValkey
from distributor.store.pipelined_connection import PipelinedConnection
from tests.support.each_loop import on_each_loop
from tests.support.tls_relay import tls_relay
from tests.support.waiting import until

MEBIBYTE = 1024 * 1024


@asynccontextmanager
async def connected(url: str, **options: Any) -> AsyncIterator[PipelinedConnection]:
    connection = PipelinedConnection(url, **options)
    try:
        yield connection
    finally:
        await connection.close()


async def failure(call: Awaitable[object]) -> Unavailable:
    with pytest.raises(Unavailable) as caught:
        await call
    assert caught.value.reason == "STORE_UNAVAILABLE"
    return caught.value


@on_each_loop
async def test_replies_come_in_the_order_of_commands(valkey_url: str) -> None:
    async with connected(valkey_url) as connection:
        assert await connection.exchange([("SET", "a", b"\xff"), ("GET", "a"), ("GET", "b")]) == [b"OK", b"\xff", None]
        assert await connection.exchange([]) == []
        assert await connection.call("INCRBY", "count", 5) == 5
        assert await connection.call("LRANGE", "none", 0, -1) == []


@on_each_loop
async def test_a_thousand_exchanges_are_executed_in_the_order_of_their_calls(valkey_url: str) -> None:
    async with connected(valkey_url) as connection:
        exchanges = [connection.exchange([("RPUSH", "all", n), ("ECHO", n)]) for n in range(1_000)]
        replies = await asyncio.gather(*exchanges)
        assert replies == [[n + 1, str(n).encode()] for n in range(1_000)]
        assert await connection.call("LRANGE", "all", 0, -1) == [str(n).encode() for n in range(1_000)]


@on_each_loop
async def test_all_travel_over_one_connection(valkey_url: str) -> None:
    async with connected(f"{valkey_url}?client_name=only", reply_timeout_seconds=60) as connection:
        await asyncio.gather(*[connection.call("PING") for _ in range(100)])
        clients = (await connection.call("CLIENT", "LIST")).decode().splitlines()
        assert len([client for client in clients if "name=only" in client]) == 1


@on_each_loop
async def test_an_error_reply_is_a_value_in_its_place(valkey_url: str) -> None:
    async with connected(valkey_url) as connection:
        replies = await connection.exchange([("SET", "text", "x"), ("LPUSH", "text", "y"), ("NONE",), ("GET", "text")])
        assert (replies[0], replies[3]) == (b"OK", b"x")
        assert [type(reply) for reply in replies[1:3]] == [DistributorError, DistributorError]
        assert "WRONGTYPE" in str(replies[1])
        with pytest.raises(DistributorError, match="unknown command 'NONE'"):
            await connection.call("NONE")


@on_each_loop
async def test_refusals_by_their_codes(valkey_url: str) -> None:
    refused = [("OOM full", ResourceExhausted), ("NOAUTH who", Unavailable), ("WRONGPASS who", Unavailable)]
    refused += [
        (f"{code} later", Unavailable)
        for code in "BUSY CLUSTERDOWN LOADING MASTERDOWN MISCONF NOREPLICAS READONLY TRYAGAIN".split()
    ]
    async with connected(valkey_url) as connection:
        for text, kind in refused:
            with pytest.raises(kind):
                await connection.call("EVAL", "return redis.error_reply(ARGV[1])", 0, text)


@on_each_loop
async def test_big_commands_and_replies_between_small_ones(valkey_url: str) -> None:
    big = os.urandom(8 * MEBIBYTE)
    async with connected(valkey_url) as connection:
        written, small, read, last = await asyncio.gather(
            connection.exchange([("SET", "big", big), ("STRLEN", "big")]),
            connection.call("ECHO", "small"),
            connection.exchange([("GET", "big"), ("GET", "big")]),
            connection.call("ECHO", "last"),
        )
        assert (written, small, last) == ([b"OK", len(big)], b"small", b"last")
        assert read == [big, big]


@on_each_loop
async def test_a_cancelled_caller_disturbs_nobody(valkey_url: str) -> None:
    async with connected(valkey_url) as connection:
        await connection.call("PING")
        calls = [asyncio.create_task(connection.call("INCR", "count")) for _ in range(3)]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.wait(calls)
        assert (calls[0].result(), calls[1].cancelled(), calls[2].result()) == (1, True, 3)
        assert await connection.call("GET", "count") == b"3"


@on_each_loop
async def test_a_call_that_is_cancelled_before_it_was_sent_never_is(valkey_url: str) -> None:
    async with connected(valkey_url) as connection:
        calls = [asyncio.create_task(connection.call("RPUSH", "all", name)) for name in "abc"]
        await asyncio.sleep(0)
        calls[1].cancel()
        await asyncio.wait(calls)
        assert await connection.call("LRANGE", "all", 0, -1) == [b"a", b"c"]


@pytest.mark.parametrize("url", ["", "localhost:6379", "valkey://localhost:port"])
def test_a_url_that_is_invalid(url: str) -> None:
    with pytest.raises(ConfigurationError, match="valkey_url is not a Valkey address"):
        PipelinedConnection(url)


def test_a_password_is_never_shown() -> None:
    assert PipelinedConnection("valkey://user:s@cr@t@host:1/0").shown_url == "valkey://host:1/0"


@on_each_loop
async def test_a_wrong_password(shared_valkey_url: str) -> None:
    scheme, _, rest = shared_valkey_url.partition("://")
    async with connected(f"{scheme}://:wrong@{rest.rpartition('@')[2]}") as connection:
        errors = [await failure(call) for call in (connection.call("PING"), connection.exchange([("PING",)]))]
    assert all("refuses our credentials" in str(error) for error in errors)


@on_each_loop
async def test_a_valkey_that_is_away_fails_all_that_wait(tmp_path: Path, port: int) -> None:
    for url in (f"valkey://127.0.0.1:{port}", f"unix://{tmp_path}/none.sock"):
        async with connected(url) as connection:
            errors = await asyncio.gather(*[failure(connection.call("PING")) for _ in range(3)])
        assert all("Valkey is away" in str(error) and error.retry_after_seconds for error in errors)
        assert len({id(error) for error in errors}) == 3


@on_each_loop
async def test_a_database_and_a_name_are_the_drivers_to_set(valkey_url: str) -> None:
    async with connected(f"{valkey_url}?db=3&client_name=replica") as connection:
        name, info = await connection.exchange([("CLIENT", "GETNAME"), ("CLIENT", "INFO")])
    assert name == b"replica"
    assert b" db=3 " in info


@on_each_loop
async def test_over_tcp_with_tls(valkey_url: str, tmp_path: Path) -> None:
    """The embedded Valkey has no TLS: a relay in front of it does."""
    big = os.urandom(MEBIBYTE)
    async with tls_relay(valkey_url, tmp_path) as relay, connected(relay.url) as connection:
        assert await connection.exchange([("SET", "big", big), ("GET", "big")]) == [b"OK", big]
        sent = asyncio.create_task(connection.call("BLPOP", "none", 60))
        await asyncio.sleep(0)
        relay.drop()
        await failure(sent)
        assert await connection.call("ECHO", "again") == b"again"


@on_each_loop
async def test_a_valkey_that_was_killed_fails_what_was_sent_and_serves_again(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    async with valkey, connected(valkey.url) as connection:
        assert await connection.call("INCR", "count") == 1
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        sent = [asyncio.create_task(connection.call("INCR", "count")) for _ in range(10)]
        await asyncio.sleep(0)
        os.kill(valkey.pid, signal.SIGKILL)
        errors = await asyncio.gather(*[failure(call) for call in sent])
        assert len({id(error) for error in errors}) == 10
        await valkey.ended()
        await failure(connection.call("PING"))
        await valkey.restart()
        assert await connection.call("GET", "count") in (b"1", None)


@on_each_loop
async def test_a_loss_while_idle_is_noticed_at_once(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, connected(valkey.url) as connection:
        own = await connection.call("CLIENT", "ID")
        async with Valkey.from_url(valkey.url) as other:
            await other.client_kill_filter(_id=str(own))
            await until(lambda: connection._pipeline is None)
            assert await connection.call("CLIENT", "ID") != own


@on_each_loop
async def test_a_valkey_that_hangs_fails_all_in_flight_in_time(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, connected(valkey.url, reply_timeout_seconds=2) as connection:
        await connection.call("PING")
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            errors = await asyncio.gather(*[failure(connection.call("INCR", "count")) for _ in range(3)])
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        assert all("no reply within 2 s" in str(error) for error in errors)
        # Valkey executes what it finds in the sockets when it continues. Nothing was sent twice.
        assert await connection.call("GET", "count") in (None, b"1", b"2", b"3")


@on_each_loop
async def test_a_slow_reply_within_its_time(valkey_url: str) -> None:
    async with connected(valkey_url, reply_timeout_seconds=10) as connection:
        assert await connection.exchange([("CLIENT", "PAUSE", 200, "ALL")]) == [b"OK"]
        assert await connection.call("ECHO", "late") == b"late"


@on_each_loop
async def test_a_valkey_that_does_not_read_holds_later_exchanges_back_in_order(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, connected(valkey.url) as connection:
        await connection.call("PING")
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            pushes = [asyncio.create_task(connection.call("RPUSH", "all", bytes(MEBIBYTE))) for _ in range(8)]
            pushes += [asyncio.create_task(connection.call("RPUSH", "all", n)) for n in range(100)]
            pushes[20].cancel()
            await asyncio.sleep(0)
            assert connection._unsent
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        replies = await asyncio.gather(*pushes, return_exceptions=True)
        assert [reply for reply in replies if isinstance(reply, int)] == list(range(1, 108))
        assert isinstance(replies[20], asyncio.CancelledError)


@on_each_loop
async def test_what_was_not_sent_when_the_connection_was_lost_is_sent_over_the_next(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey, connected(valkey.url, reply_timeout_seconds=3) as connection:
        await connection.call("PING")
        assert valkey.pid is not None
        os.kill(valkey.pid, signal.SIGSTOP)
        try:
            sent = asyncio.create_task(connection.call("ECHO", bytes(8 * MEBIBYTE)))
            unsent = [asyncio.create_task(connection.call("RPUSH", "all", n)) for n in range(3)]
            await failure(sent)
        finally:
            os.kill(valkey.pid, signal.SIGCONT)
        assert await asyncio.gather(*unsent) == [1, 2, 3]
        assert await connection.call("LRANGE", "all", 0, -1) == [b"0", b"1", b"2"]


@on_each_loop
async def test_closing_ends_exchanges_in_flight_and_later_ones(tmp_path: Path) -> None:
    async with EmbeddedValkey(tmp_path) as valkey:
        connection = PipelinedConnection(valkey.url)
        await connection.call("PING")
        in_flight = [asyncio.create_task(connection.call("BLPOP", "none", 60)) for _ in range(3)]
        await asyncio.sleep(0)
        await connection.close()
        for call in (*in_flight, connection.call("PING")):
            assert "the connection was closed" in str(await failure(call))
        await connection.close()


@on_each_loop
async def test_closing_while_it_connects() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        connection = PipelinedConnection(f"valkey://127.0.0.1:{silent.getsockname()[1]}")
        waiting = asyncio.create_task(connection.call("PING"))
        await until(lambda: connection._connecting)
        await connection.close()
        assert "the connection was closed" in str(await failure(waiting))


@on_each_loop
async def test_closing_while_the_driver_swallows_a_cancellation(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`asyncio.wait_for` does so in Python 3.11 if what it waits for ends at that moment."""
    connection = PipelinedConnection(valkey_url)
    started, ended = asyncio.Event(), asyncio.Event()

    async def connect(_: object) -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()

    monkeypatch.setattr("valkey.asyncio.connection.AbstractConnection.connect", connect)
    waiting = asyncio.create_task(connection.call("PING"))
    await started.wait()
    await connection.close()
    assert ended.is_set()
    assert "the connection was closed" in str(await failure(waiting))
