"""Idle connections to Valkey that are reset: an outage, whichever event loop a server runs on."""

from __future__ import annotations

from urllib.parse import unquote

from distributor.errors import Unavailable
from distributor.store.valkey_connection import ValkeyConnection
from tests.faults.campaign.proxy import Proxy
from tests.support.each_loop import on_each_loop
from tests.support.waiting import eventually, until


@on_each_loop
async def test_the_next_call_finds_valkey_away_or_connects_again(shared_valkey_url: str) -> None:
    password, _, path = shared_valkey_url.removeprefix("unix://:").partition("@")
    async with Proxy(lambda: [unquote(path)]) as proxy:
        connection = ValkeyConnection(f"valkey://:{password}@{proxy.address}")
        for _ in range(3):
            await connection.call("PING")
            (idle,) = connection._idle
            writer = idle._writer
            assert writer is not None
            proxy.cut()
            # It is not used before the loop has noticed.
            await until(writer.is_closing)

            async def answers() -> bool:
                try:
                    return bool(await connection.call("PING"))
                except Unavailable:
                    return False

            await eventually(answers)
        await connection.close()
