"""An agent and a bridge for the page, in the test's event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from queue import SimpleQueue
from typing import Any, Final

from distributor.agent import Agent, CommandContext, CommandFailed, ExecPolicy
from distributor.agent.command_context import OutputStreamName
from distributor.app.bridge_process import BridgeProcess, serving_dashboards
from distributor.v1 import command_service_pb2 as pb
from tests.support.free_port import free_port
from tests.support.running_bridge import bridge_settings, token_of
from tests.support.running_server import RunningServer
from tests.support.serving_agent import background
from tests.support.waiting import eventually, until

AGENT_ID: Final = "page-agent"


class Script:
    """A handler that a test drives: it prints what it is given, until it is made to end or fail."""

    def __init__(self) -> None:
        # Handlers run on a loop of their own, so the two sides share a queue of threads.
        self._next: SimpleQueue[tuple[bytes, OutputStreamName] | CommandFailed | None] = SimpleQueue()

    async def __call__(self, command: CommandContext) -> object:
        while (step := await self._step()) is not None:
            if isinstance(step, CommandFailed):
                raise step
            await command.output(*step)
        return {"ok": True}

    async def _step(self) -> tuple[bytes, OutputStreamName] | CommandFailed | None:
        await until(lambda: not self._next.empty())
        return self._next.get_nowait()

    def print(self, text: str | bytes, stream: OutputStreamName = "stdout") -> None:
        """Print this."""
        self._next.put((text.encode() if isinstance(text, str) else text, stream))

    def end(self) -> None:
        """Complete."""
        self._next.put(None)

    def fail(self, code: str, message: str) -> None:
        """Fail."""
        self._next.put(CommandFailed(code, message))


class PageWorld:
    """What stands behind the page. The bridge can go and come back on the same port."""

    def __init__(self, server: RunningServer, port: int, *, dev: bool, settings: dict[str, Any]) -> None:
        self.server = server
        self.script = Script()
        self._dev = dev
        self._settings = settings
        self._bridge: AbstractAsyncContextManager[BridgeProcess] | None = None
        self._port = port

    @property
    def origin(self) -> str:
        """Where the page is, without a path."""
        return f"http://127.0.0.1:{self._port}"

    def token(self, *roles: str, **more: Any) -> str:
        """A token with these roles."""
        return token_of(bridge_settings(self.server), *roles, **more)

    async def start_bridge(self) -> None:
        """Serve, on the same port as before."""
        settings = bridge_settings(self.server, listen=f"127.0.0.1:{self._port}", **self._settings)
        self._bridge = serving_dashboards(settings, dev=self._dev)
        await self._bridge.__aenter__()

    async def stop_bridge(self) -> None:
        """Stop serving; every page sees its connection close."""
        if self._bridge is not None:
            await self._bridge.__aexit__(None, None, None)
            self._bridge = None

    def agent(self) -> Agent:
        """An agent that runs SCRIPT as the test says, and any program; not serving yet."""
        agent = Agent(
            AGENT_ID,
            server=self.server.address,
            capacity=4,
            labels={"zone": "a"},
            exec_policy=ExecPolicy(stop_grace=0.2),
        )
        agent.add_handler("SCRIPT", self.script)
        return agent

    async def until_connected(self) -> None:
        """Wait for the agent."""

        async def connected() -> bool:
            agents = (await self.server.commands.ListAgents(pb.ListAgentsRequest())).agents
            return any(agent.agent_id == AGENT_ID and agent.status == pb.AGENT_STATUS_ONLINE for agent in agents)

        await eventually(connected)


@asynccontextmanager
async def page_world(
    server: RunningServer, *, with_agent: bool = True, dev: bool = True, **settings: Any
) -> AsyncIterator[PageWorld]:
    """An agent and a bridge of `server`, running, and stopped again; `settings` are the bridge's."""
    async with AsyncExitStack() as stack:
        world = PageWorld(server, stack.enter_context(free_port()), dev=dev, settings=settings)
        if with_agent:
            await stack.enter_async_context(background(world.agent().serve()))
            await world.until_connected()
        stack.push_async_callback(world.stop_bridge)
        await world.start_bridge()
        yield world
