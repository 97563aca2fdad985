"""Two servers restarted one after the other: no command waits long, whatever addresses its agent knows."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

import pytest

from distributor.client import CommandClient, CommandRequest, CommandStatus
from tests.support.free_port import free_port
from tests.support.launched_programs import launched_agent
from tests.support.launched_server import LaunchedServer, launched_server
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS

BOUND_SECONDS: Final = 5.0
LONG_SECONDS: Final = 8
"""Longer than both restarts."""
PAUSE_SECONDS: Final = 0.05


@asynccontextmanager
async def serving(valkey_url: str, address: str) -> AsyncIterator[LaunchedServer]:
    """A server process at this address, with the default times."""
    options = [f"--listen={address}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}"]
    async with launched_server("serve", *options) as server:
        await server.line("serving")
        yield server


class Load:
    """Queues a short command for each agent again and again, and knows how long the slowest waited to be started."""

    def __init__(self, client: CommandClient, agent_ids: list[str]) -> None:
        self._client = client
        self._agent_ids = agent_ids
        self.command_ids: list[str] = []
        self.longest_call_seconds = 0.0

    async def run(self) -> None:
        while True:
            for agent_id in self._agent_ids:
                begun = time.monotonic()
                queued = await self._client.queue(CommandRequest(agent_id, "EXEC", {"argv": ["true"]}))
                self.longest_call_seconds = max(self.longest_call_seconds, time.monotonic() - begun)
                self.command_ids.append(queued.command_id)
            await asyncio.sleep(PAUSE_SECONDS)

    async def longest_wait_seconds(self) -> float:
        """Over all that were queued, by Valkey's clock; each of them must have run in its first attempt."""
        longest = 0
        async for state in self._client.wait_many(self.command_ids, PATIENCE_SECONDS):
            assert state.status is CommandStatus.COMPLETED, state
            longest = max(longest, state.receipts.started_ms - state.receipts.queued_ms)
        return longest / 1000


async def run_for_long(client: CommandClient, agent_id: str) -> str:
    """Start a command that runs during all restarts, and return its id."""
    request = CommandRequest(agent_id, "EXEC", {"argv": ["sh", "-c", f"sleep {LONG_SECONDS}; echo done"]})
    queued = await client.queue(request)
    async for update in client.watch(queued.command_id):
        if getattr(update, "receipts", None) and update.receipts.started_ms:  # type: ignore[union-attr]
            break
    return queued.command_id


@pytest.mark.parametrize("knows_all", [True, False])
async def test_no_command_waits_for_long_because_of_a_rolling_restart(valkey_url: str, knows_all: bool) -> None:
    # Agents leave before the servers end, or they would wait for them.
    async with AsyncExitStack() as running, AsyncExitStack() as stack:
        ports = [running.enter_context(free_port()) for _ in range(2)]
        addresses = [f"127.0.0.1:{port}" for port in ports]
        servers = [await running.enter_async_context(serving(valkey_url, address)) for address in addresses]
        agent_ids = ["one", "two"]
        for agent_id, address in zip(agent_ids, addresses, strict=True):
            known = ",".join(addresses) if knows_all else address
            await stack.enter_async_context(
                launched_agent(known, agent_id, DISTRIBUTOR_AGENT_CAPACITY="2", DISTRIBUTOR_AGENT_ALLOW_EXEC="1")
            )
        client = await stack.enter_async_context(CommandClient(",".join(addresses)))
        long = [await run_for_long(client, agent_id) for agent_id in agent_ids]
        load = Load(client, agent_ids)
        async with background(load.run()) as loading:
            for server, address in zip(servers, addresses, strict=True):
                await asyncio.sleep(10 * PAUSE_SECONDS)
                server.process.send_signal(signal.SIGTERM)
                # As a supervisor does: the next one starts at once, while the last one drains.
                await running.enter_async_context(serving(valkey_url, address))
                assert await server.ended() == 0, server.everything
                assert "drain timed out" not in server.everything
            await asyncio.sleep(10 * PAUSE_SECONDS)
            assert not loading.done()
        longest = await load.longest_wait_seconds()
        assert max(longest, load.longest_call_seconds) < BOUND_SECONDS
        for command_id in long:
            result = await client.wait(command_id, PATIENCE_SECONDS)
            state = (await client.get(command_id)).state
            assert (result.status, state.attempt) == (CommandStatus.COMPLETED, 1)
