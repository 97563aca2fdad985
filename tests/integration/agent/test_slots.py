"""Heavy and light commands of one agent, with a real server: its capacity is never exceeded, and all of them run."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from distributor.agent import Agent, CommandContext
from distributor.v1 import command_pb2
from distributor.v1.command_service_pb2 import CancelCommandRequest
from tests.support.received_errors import error_of
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.serving_agent import Gate, background
from tests.support.wire_agent import running

CAPACITY = 4
HEAVY = 3
COMPLETED, FAILED = command_pb2.COMMAND_STATUS_COMPLETED, command_pb2.COMMAND_STATUS_FAILED


@pytest.fixture
async def server(valkey_url: str) -> AsyncIterator[RunningServer]:
    async with running_server(valkey_url, heartbeat_interval=0.5, start_within=5.0) as server:
        yield server


class Account:
    """Counts the slots that run, as handlers see them."""

    def __init__(self) -> None:
        self.running = self.most = 0
        self.begun: list[str] = []

    async def __call__(self, command: CommandContext) -> None:
        slots = command.params["slots"]
        assert isinstance(slots, int)
        self.running += slots
        self.begun.append(command.command_id)
        self.most = max(self.most, self.running)
        # Others of the same message begin now.
        await asyncio.sleep(0.01)
        self.running -= slots


async def queued(server: RunningServer, slots: int, command_type: str = "COUNT") -> str:
    return await server.queue(command_type=command_type, slots=slots, params={"slots": slots})


async def present(server: RunningServer) -> None:
    """Return once the agent is attached and has answered a command."""
    command_id = await server.queue(command_type="PING")
    await server.until_state(command_id, lambda state: state.status == COMPLETED)


async def test_heavy_and_light_commands_share_the_capacity(server: RunningServer) -> None:
    agent, account = Agent("agent123", server=server.address, capacity=CAPACITY), Account()
    agent.handler("COUNT")(account)
    async with background(agent.serve()):
        await present(server)
        ids = []
        for _ in range(3):
            ids += [await queued(server, slots) for slots in (1, 1, HEAVY, 1, 1, 1, 1)]
        for command_id in ids:
            state = await server.until_state(command_id, lambda state: state.status >= COMPLETED)
            assert (state.status, state.attempt) == (COMPLETED, 1), "no agent refused it"
    assert HEAVY < account.most <= CAPACITY
    assert account.begun == ids, "nothing was overtaken"


async def test_a_blocked_command_runs_once_enough_is_free(server: RunningServer) -> None:
    agent, account = Agent("agent123", server=server.address, capacity=CAPACITY), Account()
    gate = Gate()
    agent.handler("COUNT")(account)
    agent.handler("WAIT")(gate)
    async with background(agent.serve()):
        await present(server)
        waiting = [await queued(server, 1, "WAIT") for _ in range(2)]
        heavy, light = await queued(server, HEAVY), await queued(server, 1)
        for command_id in waiting:
            await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        for command_id in (heavy, light):
            assert (await server.state(command_id)).status == command_pb2.COMMAND_STATUS_QUEUED
        gate.open.set()
        for command_id in (*waiting, heavy, light):
            await server.until_state(command_id, lambda state: state.status == COMPLETED)


async def test_a_light_command_runs_once_the_heavy_one_before_it_is_cancelled(server: RunningServer) -> None:
    """The wakeup does not wait for the next poll."""
    agent, account, gate = Agent("agent123", server=server.address, capacity=CAPACITY), Account(), Gate()
    agent.handler("COUNT")(account)
    agent.handler("WAIT")(gate)
    async with background(agent.serve()):
        await present(server)
        waiting = await queued(server, 2, "WAIT")
        await server.until_state(waiting, lambda state: state.receipts.HasField("start_time"))
        heavy, light = await queued(server, HEAVY), await queued(server, 1)
        await server.commands.CancelCommand(CancelCommandRequest(command_id=heavy))
        async with asyncio.timeout(4):
            await server.until_state(light, lambda state: state.status == COMPLETED)
        gate.open.set()


async def test_more_slots_than_the_agent_has_are_refused(server: RunningServer) -> None:
    agent = Agent("agent123", server=server.address, capacity=CAPACITY)
    early = await server.queue(command_type="COUNT", slots=CAPACITY + 1)
    agent.handler("COUNT")(Account())
    async with background(agent.serve()):
        await present(server)
        state = await server.until_state(early, lambda state: state.status == FAILED)
        assert state.reason.code == "too_many_slots"
        error = await error_of(server.commands.QueueCommand(queue_request(command_type="COUNT", slots=5)))
        assert error[:3] == ("INVALID_ARGUMENT", "command.slots", "TOO_MANY_SLOTS")
        assert error.text == "command.slots is 5, more than the capacity of agent 'agent123', 4"


async def test_what_an_agent_comes_back_with_keeps_its_slots(server: RunningServer) -> None:
    async with server.agent(capacity=CAPACITY) as agent:
        heavy = await agent.next_assignment(await server.queue(slots=HEAVY))
        assert heavy.command.slots == HEAVY
        await agent.start(heavy)
        await server.until_state(heavy.command.command_id, lambda state: state.receipts.HasField("start_time"))
    async with server.agent(capacity=CAPACITY, running=[running(heavy)]) as agent:
        light = await server.queue_many(2)
        await agent.next_assignment(light[0])
        # An answered heartbeat proves that nothing more is on the way.
        await agent.heartbeat(credit=CAPACITY - HEAVY, running=HEAVY)
        assert agent.command_ids == light[:1]
        await agent.finish(heavy)
        await agent.next_assignment(light[1])
