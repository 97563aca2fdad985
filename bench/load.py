"""The load: callers that queue commands, and a watcher that observes their completion."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Final, Self

import grpc

from bench.findings import BenchFailed
from distributor.client import CommandClient, CommandRequest, JsonValue
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.credentials import Metadata

TYPE: Final = "READ"
PARAMS: Final[dict[str, JsonValue]] = {"path": "/var/log/syslog", "lines": 100, "follow": False}


def queue_request(agent_id: str) -> pb.QueueCommandRequest:
    """Build a small command of typical size."""
    request = pb.QueueCommandRequest()
    request.command.agent_id = agent_id
    request.command.type = TYPE
    request.command.params.update(PARAMS)
    return request


class CompletionWatch:
    """A WatchCommands stream for all agents, open inside this async context manager."""

    def __init__(self, channel: grpc.aio.Channel, agent_ids: Sequence[str], metadata: Metadata = ()) -> None:
        self._metadata = metadata
        self._request = pb.WatchCommandsRequest(agent_ids=agent_ids)
        self._stub = CommandServiceStub(channel)
        self._watching = asyncio.Event()
        self._changed = asyncio.Event()
        self.seen: dict[str, float] = {}
        """Time at which each command's completion arrived, by id; `time.perf_counter()`."""

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await self._watching.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def count_reaches(self, count: int) -> None:
        """Wait until `count` commands have completed. Raises BenchFailed if one failed."""
        while len(self.seen) < count:
            await self._next_change()

    async def of(self, command_id: str) -> float:
        """Wait for this command to complete and return the time."""
        while command_id not in self.seen:
            await self._next_change()
        return self.seen[command_id]

    async def _next_change(self) -> None:
        if self._task.done():
            raise BenchFailed(f"the watch ended: {self._task.exception()}")
        self._changed.clear()
        await self._changed.wait()

    async def _watch(self) -> None:
        try:
            async for message in self._stub.WatchCommands(self._request, metadata=self._metadata):
                now = time.perf_counter()
                # The first message is empty: from here on, no change is missed.
                self._watching.set()
                self._note(message, now)
                self._changed.set()
        finally:
            self._watching.set()
            self._changed.set()

    def _note(self, message: pb.WatchCommandsResponse, now: float) -> None:
        for command in message.commands:
            status = command.state.status
            if status == command_pb2.COMMAND_STATUS_COMPLETED:
                self.seen[command.command_id] = now
            elif status > command_pb2.COMMAND_STATUS_ASSIGNED:
                raise BenchFailed(f"command {command.command_id} did not complete: {command.state}")


class Callers:
    """Queues commands for the agents in turn, with a bound on unfinished commands."""

    def __init__(
        self,
        channel: grpc.aio.Channel,
        endings: CompletionWatch,
        agent_ids: Sequence[str],
        *,
        calls: int,
        outstanding: int,
        metadata: Metadata = (),
    ) -> None:
        self._metadata = metadata
        self._stub = CommandServiceStub(channel)
        self._endings = endings
        self._requests = [queue_request(agent_id) for agent_id in agent_ids]
        self._commands = [CommandRequest(agent_id, TYPE, PARAMS) for agent_id in agent_ids]
        self._calls = calls
        self._outstanding = outstanding
        self._asked = 0

    async def queue_batches(self, commands: int, batch: int) -> None:
        """Queue with QueueCommands and wait for all to complete. `commands` is a multiple of `batch`."""
        requests = [self._requests[number % len(self._requests)] for number in range(batch)]
        message = pb.QueueCommandsRequest(requests=requests)

        async def call(_: int) -> None:
            response = await self._stub.QueueCommands(message, metadata=self._metadata)
            for outcome in response.outcomes:
                if not outcome.command_id:
                    raise BenchFailed(f"a command was refused: {outcome.error}")

        await self._queue(commands // batch, batch, call)

    async def queue_singly(self, commands: int) -> None:
        """Queue with QueueCommand and wait for all to complete."""

        async def call(number: int) -> None:
            await self._stub.QueueCommand(self._requests[number % len(self._requests)], metadata=self._metadata)

        await self._queue(commands, 1, call)

    async def queue_steadily(self, commands: int, per_second: float) -> None:
        """Queue with QueueCommand at a rate, whatever the answers take, and wait for all to complete."""
        loop = asyncio.get_running_loop()
        begun = loop.time()
        async with asyncio.TaskGroup() as group:
            for number in range(commands):
                await asyncio.sleep(begun + number / per_second - loop.time())
                self._asked += 1
                request = self._requests[number % len(self._requests)]
                group.create_task(self._one(request))
        await self._endings.count_reaches(self._asked)

    async def _one(self, request: pb.QueueCommandRequest) -> None:
        await self._stub.QueueCommand(request, metadata=self._metadata)

    def others_asked(self, commands: int) -> None:
        """Note commands that others queued, and whose completion the same watch has seen."""
        self._asked += commands

    async def queue_with_client(self, client: CommandClient, commands: int) -> None:
        """Queue with `CommandClient.queue` and wait for all to complete."""

        async def call(number: int) -> None:
            await client.queue(self._commands[number % len(self._commands)])

        await self._queue(commands, 1, call)

    async def _queue(self, calls: int, commands_in_a_call: int, call: Callable[[int], Awaitable[None]]) -> None:
        numbers = iter(range(calls))

        async def caller() -> None:
            for number in numbers:
                self._asked += commands_in_a_call
                await self._endings.count_reaches(self._asked - self._outstanding)
                await call(number)

        async with asyncio.TaskGroup() as group:
            for _ in range(self._calls):
                group.create_task(caller())
        await self._endings.count_reaches(self._asked)
