"""How commands ended, seen by a watch of all commands: what was lost, and what ended twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from types import TracebackType
from typing import Final, Self

import grpc

from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub

FIRST_TERMINAL: Final = command_pb2.COMMAND_STATUS_COMPLETED


class Endings:
    """Watches inside this async context manager. A watch that is too slow is opened again."""

    def __init__(self, channel: grpc.aio.Channel) -> None:
        self._stub = CommandServiceStub(channel)
        self._ended: dict[str, int] = {}
        self._watching = asyncio.Event()
        self.contradictions = 0
        """Commands seen with two terminal statuses."""
        self.watches = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        await self._watching.wait()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def statuses(self) -> Counter[str]:
        """Return how many commands ended in each status."""
        return Counter(
            command_pb2.CommandStatus.Name(status).removeprefix("COMMAND_STATUS_").lower()  # type: ignore[arg-type]
            for status in self._ended.values()
        )

    async def missing(self, command_ids: set[str]) -> set[str]:
        """Return those that have not ended; reads those that the watch did not see."""
        for command_id in command_ids - self._ended.keys():
            response = await self._stub.GetCommand(pb.GetCommandRequest(command_id=command_id))
            self._note(command_id, response.state.status)
        return command_ids - self._ended.keys()

    async def _watch(self) -> None:
        while True:
            self.watches += 1
            try:
                async for message in self._stub.WatchCommands(pb.WatchCommandsRequest()):
                    self._watching.set()
                    for command in message.commands:
                        self._note(command.command_id, command.state.status)
            except grpc.aio.AioRpcError as error:
                if error.code() is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                    raise
            finally:
                self._watching.set()

    def _note(self, command_id: str, status: int) -> None:
        if status >= FIRST_TERMINAL and self._ended.setdefault(command_id, status) != status:
            self.contradictions += 1
