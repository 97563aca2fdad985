"""`distributor serve` through signals, kills and restarts."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from distributor.client import CommandClient, CommandRequest, CommandStatus, Queued
from tests.support.launched_server import LaunchedServer, descendants_of, gone, launched_server, somewhere
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import WireAgent, running, wire_agent


@asynccontextmanager
async def serving(data_dir: Path) -> AsyncIterator[tuple[LaunchedServer, str]]:
    """A server that serves, and its address."""
    async with launched_server("serve", *somewhere(data_dir), "--log-format=console") as server:
        line = await server.line("serving")
        address = re.search(r"grpc=(\S+)", line)
        assert address is not None, line
        yield server, address[1]


async def queue(address: str, count: int = 1) -> list[str]:
    async with CommandClient(address) as client:
        outcomes = await client.queue_many([CommandRequest("agent123", "PRINT")] * count)
    queued = [outcome for outcome in outcomes if isinstance(outcome, Queued)]
    assert len(queued) == count, outcomes
    return [outcome.command_id for outcome in queued]


async def finish(address: str, agent: WireAgent, command_ids: list[str]) -> None:
    for command_id in command_ids:
        await agent.finish(await agent.next_assignment(command_id))
    async with CommandClient(address) as client:
        for command_id in command_ids:
            assert (await client.wait(command_id, timeout_seconds=PATIENCE_SECONDS)).status is CommandStatus.COMPLETED


async def test_sigterm_drains_and_the_next_server_unended_text(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, address), wire_agent(address, capacity=1) as agent:
        held, waiting = await queue(address, 2)
        assignment = await agent.next_assignment(held)
        await agent.start(assignment)
        children = descendants_of(server.process.pid)
        assert len(children) == 1, "Valkey"
        server.process.send_signal(signal.SIGTERM)
        await agent.until(lambda: agent.drained)
        await agent.heartbeat(credit=0, running=1)
        await agent.leave()
        assert await server.ended() == 0, server.everything
        assert "Traceback" not in server.everything
        await gone(children)
    async with serving(tmp_path) as (server, address), wire_agent(address, running=[running(assignment)]) as agent:
        await agent.finish(assignment)
        await finish(address, agent, [waiting])


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, address), wire_agent(address) as agent:
        children = descendants_of(server.process.pid)
        server.process.send_signal(signal.SIGTERM)
        await agent.until(lambda: agent.drained)
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == -signal.SIGTERM
        await gone(children)


async def test_a_killed_server_leaves_no_valkey_and_loses_no_command(tmp_path: Path) -> None:
    async with serving(tmp_path) as (server, address), wire_agent(address, capacity=1) as agent:
        held, *waiting = await queue(address, 20)
        await agent.start(await agent.next_assignment(held))
        async with CommandClient(address) as client:
            while not (await client.get(held)).state.receipts.started_ms:
                await agent.heartbeat(credit=0, running=1)
        children = descendants_of(server.process.pid)
        server.process.kill()
        await server.ended()
        # It writes its last bytes out before it ends.
        await gone(children)
    async with serving(tmp_path) as (server, address):
        held_still = [running(agent.assignments[0])]
        async with wire_agent(address, capacity=1, running=held_still) as back:
            await back.finish(agent.assignments[0])
            await finish(address, back, waiting)
            assert back.command_ids == waiting
