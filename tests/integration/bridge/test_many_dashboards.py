from __future__ import annotations

import asyncio
import socket
from contextlib import AsyncExitStack
from typing import Any

import pytest

from distributor.agent import Agent, CommandContext
from tests.support.dashboard_client import DashboardClient
from tests.support.output_writer import output_log, output_piece
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer
from tests.support.serving_agent import background
from tests.support.waiting import until
from tests.support.wire_agent import WireAgent

DASHBOARDS = 200
ALL = {"commands": ["*"]}


async def test_a_hundred_commands_of_ten_dashboards_find_their_way_back(
    server: RunningServer, bridge: RunningBridge
) -> None:
    agents = [_echo_agent(server, f"agent-{number}") for number in range(5)]
    async with AsyncExitStack() as stack:
        for agent in agents:
            await stack.enter_async_context(background(agent.serve()))
        dashboards = [await stack.enter_async_context(bridge.dashboard()) for _ in range(10)]
        asked = await asyncio.gather(*(_ask_ten(dashboard, place) for place, dashboard in enumerate(dashboards)))
        for dashboard, questions in zip(dashboards, asked, strict=True):
            await dashboard.until(lambda d=dashboard: len(d.of("command:result")) == 10)  # type: ignore[misc]
            for command_id, word in questions.items():
                (result,) = dashboard.of("command:result", commandId=command_id)
                assert result["result"]["data"] == word
                assert dashboard.output(command_id) == word.encode()
            told = {message["commandId"] for message in dashboard.messages if "commandId" in message}
            assert told == set(questions), "nobody is told of the commands of another"


async def test_one_of_many_that_never_reads_delays_nobody_and_is_parted_from(
    server: RunningServer, valkey_url: str
) -> None:
    # All are of one user at one address.
    many: dict[str, Any] = {"user_connections": 2 * DASHBOARDS, "address_connections": 2 * DASHBOARDS}
    async with running_bridge(server, slow_close=0.5, **many) as bridge, AsyncExitStack() as stack:
        agent = await stack.enter_async_context(server.agent("agent123", capacity=100))
        await stack.enter_async_context(background(agent.beat(5.0, credit=100)))
        chatty = await _chatty_command(server, agent, valkey_url)
        dashboards = await asyncio.gather(
            *(
                stack.enter_async_context(bridge.dashboard(checked=False, subscribe={"commands": ["*"]}))
                for _ in range(DASHBOARDS)
            )
        )
        sleeper = await stack.enter_async_context(bridge.stranger(checked=False, sock=_small_socket(bridge)))
        sleeper.socket.transport.pause_reading()
        await sleeper.say("dashboard:connect", token=bridge.token(), subscribe={"output": [{"commandId": chatty}]})
        await until(lambda: len(bridge.process.parts.hub.dashboards) > DASHBOARDS)
        seen = 1
        # Each round, all others are told while that one has read nothing.
        while len(bridge.process.parts.hub.dashboards) > DASHBOARDS:
            command_id = await server.queue()
            seen += 1
            await agent.finish((await agent.assigned(seen))[-1])
            await asyncio.gather(*(dashboard.first("command:result", commandId=command_id) for dashboard in dashboards))
        assert seen > 1
        assert not sleeper.messages
        sleeper.socket.transport.resume_reading()
        code, reason = await sleeper.until_closed()
    assert code == 1013
    assert reason == "the queue has been full for 0.5 s"


@pytest.mark.parametrize("impatience", [{"slow_close": 0.1}, {"slow_close": 60.0, "ping_interval": 1.0}])
async def test_who_never_reads_again_is_cut_off(
    server: RunningServer, valkey_url: str, impatience: dict[str, Any]
) -> None:
    """A close frame that is never read must not keep the connection, and what waits for it, for ever."""
    async with running_bridge(server, close_timeout=0.1, **impatience) as bridge, server.agent() as agent:
        chatty = await _chatty_command(server, agent, valkey_url)
        async with bridge.stranger(checked=False, sock=_small_socket(bridge)) as sleeper:
            sleeper.socket.transport.pause_reading()
            wanted = {"output": [{"commandId": chatty}]}
            await sleeper.say("dashboard:connect", token=bridge.token(), subscribe=wanted)
            await until(lambda: _crowded(bridge))
            await until(lambda: bridge.process.parts.endpoint.connections == 0)
            sleeper.socket.transport.resume_reading()
            await sleeper.until_closed()


async def test_who_reads_again_in_time_misses_no_ending(server: RunningServer, valkey_url: str) -> None:
    async with (
        running_bridge(server, slow_close=60.0, ping_interval=60.0) as bridge,
        server.agent("agent123", capacity=1_000) as agent,
        background(agent.beat(5.0, credit=1_000)),
    ):
        chatty = await _chatty_command(server, agent, valkey_url)
        async with bridge.stranger(sock=_small_socket(bridge)) as slow, bridge.dashboard(subscribe=ALL) as quick:
            await slow.connect(bridge.token(), subscribe=ALL)
            slow.socket.transport.pause_reading()
            await slow.say("subscribe", output=[{"commandId": chatty}])
            await until(lambda: _crowded(bridge))
            command_ids = await server.queue_many(300)
            assignments = (await agent.assigned(301))[1:]
            for start in range(0, 300, 20):
                await agent.start(*assignments[start : start + 20])
                await agent.finish(*assignments[start : start + 20])
            await quick.until(lambda: len(quick.of("command:result")) == 300)
            slow.socket.transport.resume_reading()
            await slow.until(lambda: len(slow.of("command:result")) == 300)
            assert {message["commandId"] for message in slow.of("command:result")} == set(command_ids)
            assert all(slow.statuses(command_id)[-1] == "completed" for command_id in command_ids)
            assert len(slow.of("command:status")) < len(quick.of("command:status")), "states were left out"
            await slow.first("resync", reason="slow")


async def _chatty_command(server: RunningServer, agent: WireAgent, valkey_url: str) -> str:
    """A running command with more output than fits between a bridge and a dashboard that does not read."""
    command_id = await server.queue()
    (assignment,) = await agent.assigned()
    await agent.start(assignment)
    async with output_log(valkey_url, kept=20_000_000) as log:
        await log.append([output_piece(assignment, number * 20_000, b"y" * 20_000) for number in range(800)])
    return command_id


def _crowded(bridge: RunningBridge) -> bool:
    return any(dashboard.full_since is not None for dashboard in bridge.process.parts.hub.dashboards)


def _small_socket(bridge: RunningBridge) -> socket.socket:
    """A connection on whose way to its reader there is little room."""
    connection = socket.socket()
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
    connection.connect(("127.0.0.1", bridge.process.port))
    connection.setblocking(False)
    return connection


def _echo_agent(server: RunningServer, agent_id: str) -> Agent:
    agent = Agent(agent_id, server=server.address, capacity=4)

    async def echo(command: CommandContext) -> object:
        await command.output(str(command.params["word"]))
        return command.params["word"]

    agent.add_handler("ECHO", echo)
    return agent


async def _ask_ten(dashboard: DashboardClient, place: int) -> dict[str, str]:
    asked = {}
    for number in range(10):
        word = f"word {number} of dashboard {place}"
        command_id = await dashboard.request(
            f"agent-{number % 5}", commandType="ECHO", params={"word": word}, requestId=word
        )
        asked[command_id] = word
    return asked
