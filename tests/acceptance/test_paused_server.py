"""A server that is paused and woken: it ends no stream before reading it, and what it writes late changes nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

from distributor.client import CommandClient, CommandRequest, CommandStatus
from tests.support.free_port import free_port
from tests.support.launched_programs import launched_agent
from tests.support.launched_server import LaunchedServer, launched_server
from tests.support.waiting import PATIENCE_SECONDS, eventually

QUICK: Final = {
    "DISTRIBUTOR_HEARTBEAT_INTERVAL": "1",
    "DISTRIBUTOR_START_WITHIN": "1.5",
    "DISTRIBUTOR_OFFLINE_AFTER": "1.5",
    "DISTRIBUTOR_ACK_DEADLINE": "2",
}
SHORT_PAUSE_SECONDS: Final = 2.3
"""Longer than the server waits for a silent agent, shorter than the agent, which waits for three intervals."""
LONG_PAUSE_SECONDS: Final = 5.0


@asynccontextmanager
async def serving(valkey_url: str, address: str) -> AsyncIterator[LaunchedServer]:
    options = [f"--listen={address}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}"]
    async with launched_server("serve", *options, **QUICK) as server:
        await server.line("serving")
        yield server


async def pause(server: LaunchedServer, seconds: float) -> None:
    server.process.send_signal(signal.SIGSTOP)
    await asyncio.sleep(seconds)
    server.process.send_signal(signal.SIGCONT)


async def test_streams_are_read_before_they_are_ended_as_silent(valkey_url: str) -> None:
    with free_port() as port:
        address = f"127.0.0.1:{port}"
        async with serving(valkey_url, address) as server, launched_agent(address, "agent123"):
            await server.line("agent attached")
            await pause(server, SHORT_PAUSE_SECONDS)
            async with CommandClient(address) as client:
                queued = await client.queue(CommandRequest("agent123", "PING"))
                assert (await client.wait(queued.command_id, PATIENCE_SECONDS)).status is CommandStatus.COMPLETED
                # Longer than it takes to end those that are still silent.
                await asyncio.sleep(SHORT_PAUSE_SECONDS)
                assert (await client.agent("agent123")).epoch == 1, server.everything
            assert "why=silent" not in server.everything


async def test_what_a_server_writes_after_a_long_pause_changes_nothing(valkey_url: str) -> None:
    with free_port() as first_port, free_port() as second_port:
        first, second = f"127.0.0.1:{first_port}", f"127.0.0.1:{second_port}"
        async with serving(valkey_url, first) as paused, launched_agent(f"{first},{second}", "agent123"):
            await paused.line("agent attached")
            async with serving(valkey_url, second) as other, CommandClient(second) as client:
                request = CommandRequest("agent123", "EXEC", {"argv": ["sleep", str(LONG_PAUSE_SECONDS + 2)]})
                long = (await client.queue(request)).command_id

                async def started() -> bool:
                    return bool((await client.get(long)).state.receipts.started_ms)

                await eventually(started)
                pausing = asyncio.create_task(pause(paused, LONG_PAUSE_SECONDS))
                await other.line("agent attached")
                await pausing
                await paused.line("agent lost")
                pings = [(await client.queue(CommandRequest("agent123", "PING"))).command_id for _ in range(5)]
                for command_id in (*pings, long):
                    assert (await client.wait(command_id, PATIENCE_SECONDS)).status is CommandStatus.COMPLETED
                    assert (await client.get(command_id)).state.attempt == 1
                agent = await client.agent("agent123")
                assert (agent.epoch, agent.present) == (2, True)
