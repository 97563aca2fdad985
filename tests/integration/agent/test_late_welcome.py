"""A Welcome that comes late, and answers that do: no command fails for it, and no attempt is used up."""

from __future__ import annotations

import asyncio

import pytest
from valkey.asyncio import Valkey

from distributor.agent import Agent, CommandContext
from distributor.v1 import command_pb2
from tests.support.held_link import held_link
from tests.support.running_server import COMPLETED, RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS, until

QUICK = {"heartbeat_interval": 1.0, "start_within": 1.5, "ack_deadline": 2.0, "offline_after": 20.0}
LATE_SECONDS = 1.6
"""More than `start_within`: what follows the Welcome is too old for the Hello."""
COMMANDS = 200


either = pytest.mark.parametrize("command_type", ["WORK", "PING"])
"""Control commands do not need room at the agent, others do."""


def agent_of(address: str) -> Agent:
    agent = Agent("agent123", server=address, capacity=20)

    @agent.handler("WORK")
    async def work(command: CommandContext) -> None:
        """Complete at once."""

    return agent


async def ended(server: RunningServer, command_ids: list[str]) -> list[command_pb2.CommandState]:
    """The final states of these commands."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        return [(await server.until_state(one, lambda state: state.status > 2)) for one in command_ids]


def all_ran(states: list[command_pb2.CommandState], attempts: int) -> bool:
    return {(state.status, state.attempt) for state in states} == {(COMPLETED, attempts)}


@either
async def test_a_welcome_late_by_a_paused_valkey_fails_no_command(valkey_url: str, command_type: str) -> None:
    async with running_server(valkey_url, **QUICK) as server, Valkey.from_url(valkey_url) as client:
        await client.execute_command("CLIENT", "PAUSE", round(LATE_SECONDS * 1000), "ALL")
        async with background(agent_of(server.address).serve()):
            await until(lambda: server.process.has_agent("agent123"))
            command_ids = await server.queue_many(COMMANDS, command_type=command_type)
            assert all_ran(await ended(server, command_ids), attempts=1)


@either
async def test_a_welcome_late_by_a_slow_network_fails_no_command(valkey_url: str, command_type: str) -> None:
    async with running_server(valkey_url, **QUICK) as server, held_link(server.address) as link:
        link.hold_after = b"agent123"
        async with background(agent_of(link.address).serve()):
            await link.held.wait()
            await asyncio.sleep(LATE_SECONDS)
            link.release()
            command_ids = await server.queue_many(COMMANDS, command_type=command_type)
            assert all_ran(await ended(server, command_ids), attempts=1)


@either
async def test_commands_that_come_too_late_are_refused_as_stale_and_run_after_a_heartbeat(
    valkey_url: str, command_type: str
) -> None:
    async with running_server(valkey_url, **QUICK, delivery_attempts=1) as server, held_link(server.address) as link:
        link.hold_after = b"agent123"
        async with background(agent_of(link.address).serve()):
            await until(lambda: server.process.has_agent("agent123"))
            command_ids = await server.queue_many(4, command_type=command_type)
            await asyncio.sleep(LATE_SECONDS)
            link.release()
            # A refusal as stale is no failed delivery: of these, only one was allowed.
            assert all_ran(await ended(server, command_ids), attempts=2)


@either
async def test_a_claim_that_valkey_answers_too_late_is_not_sent_and_is_no_delivery(
    valkey_url: str, command_type: str
) -> None:
    async with (
        running_server(valkey_url, **QUICK, delivery_attempts=1) as server,
        Valkey.from_url(valkey_url) as client,
        background(agent_of(server.address).serve()),
    ):
        await until(lambda: server.process.has_agent("agent123"))
        await client.execute_command("CLIENT", "PAUSE", round(LATE_SECONDS * 1000), "ALL")
        command_ids = await server.queue_many(COMMANDS, command_type=command_type)
        states = await ended(server, command_ids)
        assert {state.status for state in states} == {COMPLETED}
