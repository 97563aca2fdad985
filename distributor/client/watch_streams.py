"""Watch streams that survive outages of the server and deliver each byte of output and each result once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Final

import grpc

from distributor.client.options import ClientOptions
from distributor.client.reconnecting import ConnectivityReporter, Deadline, ReconnectState
from distributor.client.status import error_of
from distributor.client.translation import state_of, update_of
from distributor.errors import Unavailable
from distributor.model.command import CommandResult, CommandState
from distributor.model.delivery import OutputChunk, OutputGap, Update
from distributor.v1.command_service_pb2 import WatchCommandRequest, WatchCommandsRequest
from distributor.wire.limits import MAX_WATCHED

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

_BUFFERED: Final = 1_000


class WatchPosition:
    """How much of one command the caller has seen, so that a reopened stream continues. Does no I/O."""

    def __init__(self, output_offset: int) -> None:
        self.output_offset = output_offset
        self._last_state: CommandState | None = None

    def advance(self, update: Update) -> Update | None:
        """Return the new part of `update`, or None."""
        match update:
            case OutputChunk():
                return self._advance_output(update)
            case OutputGap():
                self.output_offset = max(self.output_offset, update.end_offset)
            case CommandState():
                if not _is_news(update, self._last_state):
                    return None
                self._last_state = update
        return update

    def _advance_output(self, chunk: OutputChunk) -> OutputChunk | None:
        seen = max(0, self.output_offset - chunk.offset)
        if seen >= len(chunk.data):
            return None
        self.output_offset = chunk.end_offset
        return chunk._replace(offset=chunk.offset + seen, data=chunk.data[seen:]) if seen else chunk


class WatchStreams:
    """Opens watch streams and reopens them when they are cut."""

    def __init__(self, stub: CommandServiceAsyncStub, target: str, options: ClientOptions) -> None:
        self._stub = stub
        self._target = target
        self._options = options
        self._connectivity = ConnectivityReporter(target, options)

    async def updates(self, request: WatchCommandRequest, deadline: Deadline) -> AsyncGenerator[Update, None]:
        """Yield the updates of one command, from `request.output_offset` through its result."""
        position = WatchPosition(request.output_offset)
        reconnecting = ReconnectState(self._options, deadline, self._connectivity)
        while True:
            cut = None
            request.output_offset = position.output_offset
            call = self._stub.WatchCommand(request, timeout=deadline.remaining_seconds)
            try:
                async for message in call:
                    reconnecting.progressed()
                    update = update_of(message)
                    if update is not None and (update := position.advance(update)) is not None:
                        yield update
                    if isinstance(update, CommandResult):
                        return
            except grpc.aio.AioRpcError as failure:
                cut = error_of(failure, self._target)
            finally:
                call.cancel()
            await reconnecting.pause(cut or self._ended_early())

    async def states(self, command_ids: Sequence[str], deadline: Deadline) -> AsyncGenerator[CommandState, None]:
        """Yield the state of each command now and after each change, until all have ended."""
        distinct = list(dict.fromkeys(command_ids))
        unended = set(distinct)
        arrivals: asyncio.Queue[CommandState | Exception] = asyncio.Queue(_BUFFERED)
        # No TaskGroup: a generator must not yield inside one (PEP 789).
        tasks = [
            asyncio.create_task(self._collect(distinct[start : start + MAX_WATCHED], arrivals, deadline))
            for start in range(0, len(distinct), MAX_WATCHED)
        ]
        try:
            while unended:
                arrival = await arrivals.get()
                if isinstance(arrival, Exception):
                    raise arrival
                if arrival.status.terminal:
                    unended.remove(arrival.command_id)
                yield arrival
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _collect(
        self, command_ids: Sequence[str], arrivals: asyncio.Queue[CommandState | Exception], deadline: Deadline
    ) -> None:
        """Put new states into `arrivals` until all commands have ended; on failure, put the error."""
        waiting: dict[str, CommandState | None] = dict.fromkeys(command_ids)
        reconnecting = ReconnectState(self._options, deadline, self._connectivity)
        try:
            while True:
                cut = None
                try:
                    async for state in self._changes(sorted(waiting), reconnecting, deadline):
                        if not _is_news(state, waiting.get(state.command_id, state)):
                            continue
                        if state.status.terminal:
                            del waiting[state.command_id]
                        else:
                            waiting[state.command_id] = state
                        await arrivals.put(state)
                except grpc.aio.AioRpcError as failure:
                    cut = error_of(failure, self._target)
                if not waiting:
                    return
                await reconnecting.pause(cut or self._ended_early())
        except Exception as error:  # noqa: BLE001 - the consumer raises it
            await arrivals.put(error)

    async def _changes(
        self, command_ids: Sequence[str], reconnecting: ReconnectState, deadline: Deadline
    ) -> AsyncGenerator[CommandState, None]:
        """Yield the states from one stream, which the server ends when all of `command_ids` have ended."""
        request = WatchCommandsRequest(command_ids=command_ids)
        call = self._stub.WatchCommands(request, timeout=deadline.remaining_seconds)
        try:
            async for message in call:
                reconnecting.progressed()
                for wire in message.commands:
                    yield state_of(wire)
        finally:
            call.cancel()

    def _ended_early(self) -> Unavailable:
        return Unavailable(f"the server at {self._target} ended the stream before the command had ended")


def _is_news(state: CommandState, last: CommandState | None) -> bool:
    """Whether a state is to be shown after `last`. A reopened stream begins with states that may be known or older."""
    return last is None or (state.revision >= last.revision and state != last)
