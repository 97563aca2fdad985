"""A Valkey out of memory: new commands are refused, and running ones finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from valkey.asyncio import Valkey

from distributor.agent import Agent, CommandContext
from distributor.store.embedded import EmbeddedValkey
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from tests.support.received_errors import error_of
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.serving_agent import Gate, background
from tests.support.waiting import PATIENCE_SECONDS, eventually

COMPLETED, CANCELLED = command_pb2.COMMAND_STATUS_COMPLETED, command_pb2.COMMAND_STATUS_CANCELLED
QUICK = {"heartbeat_interval": 0.1, "start_within": 1.0, "ack_deadline": 2.0, "offline_after": 1.0}


@pytest.fixture
async def valkey(tmp_path: Path) -> AsyncIterator[EmbeddedValkey]:
    async with EmbeddedValkey(tmp_path) as valkey:
        yield valkey


async def set_maxmemory(valkey: EmbeddedValkey, size: int) -> None:
    async with Valkey.from_url(valkey.url) as client:
        await client.config_set("maxmemory", size)


def new_agent(server: RunningServer, gate: Gate) -> Agent:
    agent = Agent("agent123", server=server.address, capacity=3)
    agent.handler("WAIT")(gate)

    @agent.handler("UNTIL_STOPPED")
    async def until_stopped(command: CommandContext) -> None:
        await asyncio.sleep(PATIENCE_SECONDS)

    return agent


async def running(server: RunningServer, command_type: str) -> str:
    command_id = await server.queue(command_type=command_type)
    await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
    return command_id


async def present(server: RunningServer) -> None:
    async def there() -> bool | None:
        return (await server.agent_info()).status != pb.AGENT_STATUS_OFFLINE or None

    await eventually(there)


async def test_running_commands_finish_and_everything_goes_on_afterwards(valkey: EmbeddedValkey) -> None:
    async with running_server(valkey.url, **QUICK) as server:
        gate = Gate()
        async with background(new_agent(server, gate).serve()):
            waits, stopped = await running(server, "WAIT"), await running(server, "UNTIL_STOPPED")
            held = [await server.queue(command_type="WAIT"), await server.queue(command_type="WAIT")]
            await set_maxmemory(valkey, 1)

            error = await error_of(server.commands.QueueCommand(queue_request(command_type="WAIT")))
            assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "STORE_FULL")

            # Cancels work, of running commands and in the queue.
            await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=stopped))
            assert (await server.result(stopped)).status == CANCELLED
            await server.commands.CancelCommand(pb.CancelCommandRequest(command_id=held[1]))
            assert (await server.result(held[1])).status == CANCELLED

            # Heartbeats keep the agent present for longer than it may be silent.
            before = (await server.agent_info()).last_seen_time.ToMilliseconds()
            await until_seen_after(server, before + 1_500)
            await present(server)

            # What runs and what is queued finishes, and results can be read.
            gate.open.set()
            for command_id in (waits, held[0]):
                result = await server.result(command_id)
                assert (result.status, result.data.struct_value["done"]) == (COMPLETED, command_id)
            answer = await server.commands.GetResult(pb.GetResultRequest(command_id=waits))
            assert answer.result.status == COMPLETED

        # Agents attach, and find nothing to run.
        async with background(new_agent(server, gate).serve()):
            await present(server)
            assert (await error_of(server.commands.QueueCommand(queue_request()))).reason == "STORE_FULL"

            await set_maxmemory(valkey, 0)
            after = await server.queue(command_type="WAIT")
            assert (await server.result(after)).status == COMPLETED
            assert b"done" in await output(server, after)


async def until_seen_after(server: RunningServer, time_ms: int) -> None:
    async def seen() -> bool | None:
        return (await server.agent_info()).last_seen_time.ToMilliseconds() > time_ms or None

    await eventually(seen)


async def output(server: RunningServer, command_id: str) -> bytes:
    request = pb.WatchCommandRequest(command_id=command_id)
    return b"".join([update.output.data async for update in server.commands.WatchCommand(request)])


async def test_a_running_command_survives_the_end_of_its_server(valkey: EmbeddedValkey) -> None:
    gate = Gate()
    async with AsyncExitStack() as one, AsyncExitStack() as other:
        servers = {
            stack: await stack.enter_async_context(running_server(valkey.url, **QUICK)) for stack in (one, other)
        }
        agent = Agent("agent123", server=",".join(server.address for server in servers.values()), capacity=3)
        agent.handler("WAIT")(gate)
        async with background(agent.serve()):
            command_id = await running(servers[one], "WAIT")
            epoch = (await servers[one].agent_info()).epoch
            await set_maxmemory(valkey, 1)
            holder = next(stack for stack, server in servers.items() if server.process.has_agent("agent123"))
            left = servers[other if holder is one else one]
            await holder.aclose()
            assert (await left.agent_info()).epoch > epoch
            gate.open.set()
            assert (await left.result(command_id)).status == COMPLETED
            await set_maxmemory(valkey, 0)
            assert (await left.result(await left.queue(command_type="WAIT"))).status == COMPLETED
