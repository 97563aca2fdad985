"""A complete server in the test's event loop, with its own ports, the test's Valkey, callers and agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from valkey.asyncio import Valkey

from distributor.app.server_process import ServerProcess, serving
from distributor.app.timing import ServerTiming
from distributor.rpc.interceptors.authentication import Authenticator
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.settings import ServerSettings
from distributor.store import keys
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.transport import channel_options
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.wire_agent import WireAgent, wire_agent

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

QUEUED = command_pb2.COMMAND_STATUS_QUEUED
ASSIGNED = command_pb2.COMMAND_STATUS_ASSIGNED
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED


def quick_settings(valkey_url: str, **changes: Any) -> ServerSettings:
    """Settings under which nothing is slow, and nothing happens by the poll alone."""
    quick: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "http_listen": "127.0.0.1:0",
        "valkey_url": valkey_url,
        "polling_interval": 60.0,
        "retry_first": 0.01,
        "retry_most": 0.01,
        "drain_timeout": 0.2,
        "audit": "off",
    }
    return ServerSettings(**quick | changes)


@dataclass
class RunningServer:
    """A served ServerProcess and what a test does with it."""

    process: ServerProcess
    settings: ServerSettings
    channel: grpc.aio.Channel
    commands: CommandServiceAsyncStub

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.process.port}"

    def agent(self, agent_id: str = "agent123", **hello: Any) -> AbstractAsyncContextManager[WireAgent]:
        """Attach an agent; it is welcomed."""
        return wire_agent(self.address, agent_id, **hello)

    async def queue(self, agent_id: str = "agent123", command_type: str = "PRINT", **command: Any) -> str:
        """Queue a command; returns its id."""
        request = queue_request(agent_id, command_type, **command)
        response: pb.QueueCommandResponse = await self.commands.QueueCommand(request)
        return response.command.command_id

    async def queue_many(self, count: int, agent_id: str = "agent123", **command: Any) -> list[str]:
        """Queue like commands in one call; returns their ids in order."""
        requests = [queue_request(agent_id, **command) for _ in range(count)]
        response = await self.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests))
        return [outcome.command_id for outcome in response.outcomes]

    async def ids(self) -> list[str]:
        """Ids of all commands, the oldest first."""
        found: list[str] = []
        page_token = ""
        while True:
            page = await self.commands.ListCommands(pb.ListCommandsRequest(page_token=page_token, page_size=1_000))
            found += [row.command_id for row in page.commands]
            page_token = page.next_page_token
            if not page_token:
                return found[::-1]

    async def get(self, command_id: str) -> pb.GetCommandResponse:
        response: pb.GetCommandResponse = await self.commands.GetCommand(pb.GetCommandRequest(command_id=command_id))
        return response

    async def state(self, command_id: str) -> command_pb2.CommandState:
        return (await self.get(command_id)).state

    async def result(self, command_id: str) -> command_pb2.CommandResult:
        """The result, once the command has ended: watched for, so it comes as soon as it is there."""
        request = pb.WatchCommandRequest(command_id=command_id, without_output=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for update in self.commands.WatchCommand(request):
                if update.HasField("result"):
                    result: command_pb2.CommandResult = update.result
                    return result
        raise AssertionError(f"the watch of {command_id} ended without a result")

    async def until_state(
        self, command_id: str, wanted: Callable[[command_pb2.CommandState], bool]
    ) -> command_pb2.CommandState:
        """The state as soon as it is as wanted."""
        request = pb.WatchCommandRequest(command_id=command_id, without_output=True)
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for update in self.commands.WatchCommand(request):
                if update.HasField("command") and wanted(update.command.state):
                    state: command_pb2.CommandState = update.command.state
                    return state
        raise AssertionError(f"command {command_id} ended before it was as wanted")

    async def agent_info(self, agent_id: str = "agent123") -> pb.Agent:
        response = await self.commands.GetAgent(pb.GetAgentRequest(agent_id=agent_id))
        agent: pb.Agent = response.agent
        return agent

    async def until_away(self, agent_id: str = "agent123") -> pb.Agent:
        """The agent once the server has noted that it is away."""

        async def away() -> pb.Agent | None:
            agent = await self.agent_info(agent_id)
            return agent if agent.status == pb.AGENT_STATUS_OFFLINE else None

        return await eventually(away)


def queue_request(
    agent_id: str = "agent123", command_type: str = "PRINT", *, params: dict[str, Any] | None = None, **command: Any
) -> pb.QueueCommandRequest:
    """What to queue; `time_limit` and `queue_ttl` in seconds."""
    key = command.pop("idempotency_key", "")
    durations = {name: command.pop(name) for name in ("time_limit", "queue_ttl") if name in command}
    request = pb.QueueCommandRequest(
        command=command_pb2.Command(agent_id=agent_id, type=command_type, **command), idempotency_key=key
    )
    for name, seconds in durations.items():
        getattr(request.command, name).FromMilliseconds(round(seconds * 1000))
    if params is not None:
        request.command.params.update(params)
    return request


@asynccontextmanager
async def connected(process: ServerProcess, settings: ServerSettings) -> AsyncIterator[RunningServer]:
    """A caller of a server that serves already."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{process.port}", options=channel_options()) as channel:
        yield RunningServer(process, settings, channel, CommandServiceStub(channel))


EAGER: Final = ServerTiming(deadlines=0.02, liveness=0.02, gauges=0.02)
"""Background loops look far more often than once a second, so that tests need not wait for them."""


@asynccontextmanager
async def running_server(valkey_url: str, **changes: Any) -> AsyncIterator[RunningServer]:
    """A server and a caller of it; stopped at the end. `changes` are settings, `timing` and `authenticator`."""
    timing: ServerTiming = changes.pop("timing", EAGER)
    authenticator: Authenticator | None = changes.pop("authenticator", None)
    settings = quick_settings(valkey_url, **changes)
    async with serving(settings, (), timing, authenticator) as process, connected(process, settings) as server:
        yield server


@asynccontextmanager
async def intercepted_server(
    settings: ServerSettings, *interceptors: Interceptor, timing: ServerTiming = EAGER
) -> AsyncIterator[RunningServer]:
    """The same with these settings, and with interceptors around every call."""
    async with serving(settings, interceptors, timing) as process, connected(process, settings) as server:
        yield server


async def keyspace(valkey_url: str) -> dict[bytes, bytes]:
    """Everything about commands in a Valkey: each key with its value as Valkey would save it.

    Without what servers write by the clock.
    """
    by_the_clock = {keys.INDEX_CHECK, keys.DUE_PASSES}
    async with Valkey.from_url(valkey_url) as client:
        names = [key async for key in client.scan_iter(count=1_000) if key.decode() not in by_the_clock]
        return {key: await client.dump(key) for key in names}
