"""A handler that blocks the agent's event loop is named in its log."""

from __future__ import annotations

import time

from distributor.agent import Agent, CommandContext
from tests.support.own_logs import own_logs
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import serving


async def test_a_handler_that_blocks_the_loop_is_named(gateway: ScriptedGateway, agent: Agent) -> None:
    with own_logs() as logs:

        @agent.handler("BLOCK")
        async def block(command: CommandContext) -> None:
            deadline = time.monotonic() + 5.0
            while not any(line.get("task") == "command a" for line in logs) and time.monotonic() < deadline:
                time.sleep(0.01)  # noqa: ASYNC251 - blocking the loop is the point

        async with serving(agent, gateway) as served:
            await served.session.command(assignment("a", "BLOCK"))
            await served.session.result("a")
    blocked = [line for line in logs if line["event"] == "the event loop is blocked"]
    # The connection has a loop of its own, which a busy machine may hold up.
    assert "command a" in [line["task"] for line in blocked]
