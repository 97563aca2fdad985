"""A reader that wants every byte slows the program down."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from distributor.agent import Agent, CommandContext
from distributor.client import CommandClient, CommandRequest, CommandStatus, OutputChunk, OutputGap
from tests.support.running_server import RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS, eventually

KEPT = 65_536
PRINTED = bytes(range(256)) * 10_000


@pytest.fixture
async def small(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server that keeps little output."""
    async with running_server(valkey_url, output_kept_bytes=KEPT) as server:
        yield server


@pytest.fixture
async def impatient(valkey_url: str) -> AsyncIterator[RunningServer]:
    """A server that keeps little output, and waits for readers but a moment."""
    async with running_server(valkey_url, output_kept_bytes=KEPT, output_hold=0.1) as server:
        yield server


async def print_much(command: CommandContext) -> None:
    await command.output(PRINTED)


@asynccontextmanager
async def printing_agent(server: RunningServer) -> AsyncIterator[None]:
    """An agent whose PRINT prints 40 times what is kept, as fast as it can."""
    agent = Agent("agent123", server=server.address, capacity=4)
    agent.add_handler("PRINT", print_much)
    async with background(agent.serve()):
        yield


async def read_all(client: CommandClient, command_id: str) -> bytes:
    updates = client.watch(command_id, hold_output=True)
    async with asyncio.timeout(PATIENCE_SECONDS):
        return b"".join([update.data async for update in updates if isinstance(update, OutputChunk)])


async def test_output_is_held_from_the_first_byte_for_a_reader_that_comes(small: RunningServer) -> None:
    async with printing_agent(small), CommandClient(small.address) as client:
        queued = await client.queue(CommandRequest("agent123", "PRINT"), hold_output=True)
        command_id = queued.command.command_id

        async def printed() -> bool:
            return ((await client.get(command_id)).state.output_bytes or 0) >= KEPT

        await eventually(printed)
        read = await read_all(client, command_id)

    assert hashlib.sha256(read).digest() == hashlib.sha256(PRINTED).digest()


async def test_output_of_commands_queued_together_is_held(small: RunningServer) -> None:
    async with printing_agent(small), CommandClient(small.address) as client:
        queued = await asyncio.gather(
            *(client.queue(CommandRequest("agent123", "PRINT"), hold_output=True) for _ in range(3))
        )
        ids = [one.command.command_id for one in queued]

        async def printed() -> bool:
            return all([((await client.get(one)).state.output_bytes or 0) >= KEPT for one in ids])

        await eventually(printed)
        read = await asyncio.gather(*(read_all(client, one) for one in ids))

    assert [hashlib.sha256(one).digest() for one in read] == [hashlib.sha256(PRINTED).digest()] * 3


async def test_without_a_hold_output_is_cut(small: RunningServer) -> None:
    async with printing_agent(small), CommandClient(small.address) as client:
        queued = await client.queue(CommandRequest("agent123", "PRINT"))
        await client.wait(queued.command.command_id, timeout_seconds=PATIENCE_SECONDS)
        read = await read_all(client, queued.command.command_id)

    assert KEPT <= len(read) < len(PRINTED)


async def test_two_readers_that_hold_both_get_every_byte(small: RunningServer) -> None:
    async with printing_agent(small), CommandClient(small.address) as client, CommandClient(small.address) as other:
        queued = await client.queue(CommandRequest("agent123", "PRINT"), hold_output=True)
        command_id = queued.command.command_id
        first, second = await asyncio.gather(read_all(client, command_id), read_all(other, command_id))
    assert first == second == PRINTED


async def test_a_reader_that_does_not_come_holds_the_program_for_a_while_only(impatient: RunningServer) -> None:
    async with printing_agent(impatient), CommandClient(impatient.address) as client:
        queued = await client.queue(CommandRequest("agent123", "PRINT"), hold_output=True)
        result = await client.wait(queued.command.command_id, timeout_seconds=PATIENCE_SECONDS)
        assert result.status is CommandStatus.COMPLETED
        rest = [update async for update in client.watch(queued.command.command_id)]
    assert any(isinstance(update, OutputGap) for update in rest)
