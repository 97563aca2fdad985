"""How many messages answer commands that end at once."""

from __future__ import annotations

import asyncio

import pytest

from distributor.agent import Agent, BlockingContext, CommandContext, gathering
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.serving_agent import Gate, serving
from tests.support.waiting import PATIENCE_SECONDS

LONG_SECONDS = 600.0


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No slow machine may separate what travels together; and nothing may wait that has no reason to."""
    monkeypatch.setattr(gathering, "GATHER_SECONDS", LONG_SECONDS)


async def answers(session: ScriptedSession, command_type: str, count: int) -> list[tuple[int, int, int]]:
    """Send that many commands in one message; return the parts of each message that answers them."""
    ids = [f"{command_type}-{number}" for number in range(count)]
    before = len(session.seen)
    await session.command(*(assignment(command_id, command_type) for command_id in ids))
    async with asyncio.timeout(PATIENCE_SECONDS):
        for command_id in ids:
            await session.result(command_id)
    return [(len(one.received), len(one.started), len(one.results)) for one in session.seen[before:]]


@pytest.mark.parametrize("count", [1, 4, 20])
async def test_commands_that_end_at_once_are_answered_in_two_messages(
    gateway: ScriptedGateway, agent: Agent, patient: None, count: int
) -> None:
    """One before the handlers are called, and one when they have ended."""

    @agent.handler("ASYNC")
    async def quick(command: CommandContext) -> str:
        await command.output("done\n")
        return command.command_id

    @agent.handler("THREAD")
    def threaded(command: BlockingContext) -> str:
        command.output("done\n")
        return command.command_id

    async with serving(agent, gateway) as served:
        for command_type in ("ASYNC", "THREAD"):
            assert await answers(served.session, command_type, count) == [(count, 0, 0), (0, count, count)]
            assert served.session.output(f"{command_type}-0") == b"done\n"


@pytest.mark.parametrize("count", [1, 4])
async def test_commands_that_never_block_are_answered_in_one_message(
    gateway: ScriptedGateway, agent: Agent, patient: None, count: int
) -> None:
    async with serving(agent, gateway) as served:
        assert await answers(served.session, "PING", count) == [(count, count, count)]


async def test_a_slow_command_does_not_hold_up_a_quick_one(gateway: ScriptedGateway, agent: Agent, gate: Gate) -> None:
    @agent.handler("QUICK")
    async def quick(command: CommandContext) -> None:
        return None

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("slow", "WAIT"), assignment("quick", "QUICK"))
        await served.session.result("quick")
        await served.session.started("slow")
        assert not any(result.command_id == "slow" for one in served.session.seen for result in one.results)
        gate.open.set()
        await served.session.result("slow")
