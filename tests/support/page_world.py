"""A server, an agent and a bridge for the page, in the test's own event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final

from distributor.agent import Agent, CommandContext, CommandFailed, ExecPolicy
from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import RunningServer, eventually, running_server
from tests.support.serving_agent import background

AGENT_ID: Final = "page-agent"
"""Where the test has an agent."""


class Script:
    """A handler that prints what the test tells it to, when it tells it to, until it is told how to end."""

    def __init__(self) -> None:
        self._next: asyncio.Queue[bytes | None | CommandFailed] = asyncio.Queue()

    async def __call__(self, command: CommandContext) -> object:
        while (step := await self._next.get()) is not None:
            if isinstance(step, CommandFailed):
                raise step
            await command.output(step)
        return {"ok": True}

    def print(self, text: str | bytes) -> None:
        """Print this."""
        self._next.put_nowait(text.encode() if isinstance(text, str) else text)

    def end(self) -> None:
        """Complete."""
        self._next.put_nowait(None)

    def fail(self, code: str, message: str) -> None:
        """Fail."""
        self._next.put_nowait(CommandFailed(code, message))


class PageWorld:
    """What stands behind the page. The bridge can go and come back on the same port."""

    def __init__(self, server: RunningServer) -> None:
        self.server = server
        self.script = Script()

    async def until_connected(self, agent_id: str = AGENT_ID) -> None:
        """Wait for an agent."""

        async def connected() -> bool:
            agents = (await self.server.commands.ListAgents(pb.ListAgentsRequest())).agents
            return any(agent.agent_id == agent_id and agent.status != pb.AGENT_STATUS_OFFLINE for agent in agents)

        await eventually(connected)

    def agent(self) -> Agent:
        """One that runs SCRIPT as the test says, and any program."""
        agent = Agent(
            AGENT_ID,
            server=self.server.address,
            capacity=4,
            labels={"zone": "a"},
            exec_policy=ExecPolicy(stop_grace=0.2),
        )
        agent.add_handler("SCRIPT", self.script)
        return agent


@asynccontextmanager
async def page_world(valkey_url: str, *, with_agent: bool = True) -> AsyncIterator[PageWorld]:
    """Everything running, and stopped again."""
    async with AsyncExitStack() as stack:
        world = PageWorld(await stack.enter_async_context(running_server(valkey_url)))
        if with_agent:
            await stack.enter_async_context(background(world.agent().serve()))
            await world.until_connected()
        yield world
