"""A Valkey that is away for seconds: idle agents keep their streams, the others are back soon after it."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from pathlib import Path

from distributor.agent import Agent, CommandContext
from tests.support.running_server import COMPLETED, running_server
from tests.support.serving_agent import Flag, background
from tests.support.valkey_relay import valkey_relay
from tests.support.waiting import PATIENCE_SECONDS, until

QUICK = {"heartbeat_interval": 1.5, "start_within": 10.0}
OUTAGE_SECONDS = 4.0
BACK_SECONDS = 10.0
"""The longest wait that an agent draws is 1 s; the rest is for a slow machine. With growing waits it was 27 s."""
IDLE = [f"idle-{number}" for number in range(10)]
WORKING = [f"working-{number}" for number in range(10)]


async def test_agents_are_there_again_within_seconds_of_an_outage(valkey_url: str, tmp_path: Path) -> None:
    ended = Flag()

    async def work(command: CommandContext) -> str:
        await ended.wait()
        return command.command_id

    async with (
        valkey_relay(valkey_url, tmp_path) as relay,
        running_server(relay.url, **QUICK) as server,
        AsyncExitStack() as serving,
    ):
        for agent_id in (*IDLE, *WORKING):
            agent = Agent(agent_id, server=server.address)
            agent.add_handler("WORK", work)
            await serving.enter_async_context(background(agent.serve()))
        await until(lambda: all(server.process.has_agent(one) for one in (*IDLE, *WORKING)))
        running = [await server.queue(agent_id, "WORK") for agent_id in WORKING]
        for command_id in running:
            await server.until_state(command_id, lambda state: state.receipts.HasField("start_time"))
        relay.down()
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        # Their results cannot be stored, so these agents have to attach again.
        ended.set()
        await until(lambda: not any(server.process.has_agent(one) for one in WORKING))
        await asyncio.sleep(OUTAGE_SECONDS / 2)
        await relay.up()
        back = time.monotonic()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await until(lambda: all(server.process.has_agent(one) for one in (*IDLE, *WORKING)))
            took = time.monotonic() - back
            pings = await asyncio.gather(*(server.queue(one, "PING") for one in (*IDLE, *WORKING)))
            results = await asyncio.gather(*map(server.result, [*pings, *running]))
        assert {result.status for result in results} == {COMPLETED}
        assert took < BACK_SECONDS
        assert {(await server.agent_info(one)).epoch for one in IDLE} == {1}, "their streams did not end"
