"""The client: what a Python service imports to queue commands and follow them."""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

import grpc

from distributor.client import values
from distributor.client.options import ClientOptions
from distributor.client.reconnecting import Deadline
from distributor.client.translation import (
    agent_of,
    batches,
    command_of,
    outcome_of,
    result_of,
    state_of,
    wire_agent_status,
    wire_filter,
    wire_request,
)
from distributor.client.unary_calls import UnaryCalls
from distributor.client.watching import Watching
from distributor.errors import DistributorError
from distributor.model.agent import AgentInfo, AgentStatus
from distributor.model.command import Command, CommandResult, CommandState
from distributor.v1 import command_service_pb2 as wire
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.limits import MAX_PAGE
from distributor.wire.transport import channel_options

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

ALL_COMMANDS: Final = values.CommandFilter()
_UNOPENED: Final = "use the client inside `async with`"


class CommandClient:
    """Queues commands, waits for them, watches them, cancels them, lists them.

        async with CommandClient("127.0.0.1:50051") as client:
            queued = await client.queue(CommandRequest("agent123", "PING"))
            result = await client.wait(queued.command.command_id, timeout_seconds=30)

    One connection, opened by `async with`; any number of tasks of that event loop may share it. Every failure of a
    call is an error of `distributor.errors`. Calls are tried again while the server is unavailable, as `ClientOptions`
    bound it; queueing is safe to try again because each command carries an idempotency key.
    """

    def __init__(self, target: str, options: ClientOptions | None = None) -> None:
        self.target = target
        self._options = options or ClientOptions()
        self._calls = UnaryCalls(target, self._options)
        self._channel: grpc.aio.Channel | None = None
        self._opened: CommandServiceAsyncStub | None = None
        self._watches: Watching | None = None

    async def __aenter__(self) -> Self:
        self._channel = grpc.aio.insecure_channel(self.target, options=channel_options(self.target))
        self._opened = CommandServiceStub(self._channel)
        self._watches = Watching(self._opened, self.target, self._options)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._channel is not None:
            await self._channel.close()
            self._channel = self._opened = self._watches = None

    async def queue(self, request: values.CommandRequest, *, hold_output: bool = False) -> values.QueuedCommand:
        """Queue one command. It is stored when this returns; the agent need not be connected.

        `hold_output` announces a `watch` with `hold_output`: output is held for it from the first byte on.
        """
        wired = wire_request(request, request.idempotency_key or _minted_key())
        wired.hold_output = hold_output
        answer = await self._calls.call(self._stub.QueueCommand, wired)
        # With a minted key, an earlier use can only have been a try of this very call.
        already_queued = answer.already_queued and bool(request.idempotency_key)
        return values.QueuedCommand(command_of(answer.command, answer.state), already_queued)

    async def queue_many(self, requests: Iterable[values.CommandRequest]) -> list[values.QueueOutcome]:
        """Queue any number of commands, in order; one outcome for each, in the same order.

        They travel in calls of up to 1,000 commands. Raises what makes the first call fail as a whole; once a call
        succeeded, a later one that fails gives its error to each command that it and those after it would have queued.
        """
        requests = list(requests)
        wired = [wire_request(request, request.idempotency_key or _minted_key()) for request in requests]
        outcomes: list[values.QueueOutcome] = []
        for batch in batches(wired):
            try:
                answer = await self._calls.call(self._stub.QueueCommands, wire.QueueCommandsRequest(requests=batch))
            except DistributorError as error:
                if not outcomes:
                    raise
                return outcomes + [error] * (len(requests) - len(outcomes))
            own_keys = (bool(request.idempotency_key) for request in requests[len(outcomes) :])
            outcomes += [outcome_of(outcome, own) for outcome, own in zip(answer.outcomes, own_keys, strict=False)]
        return outcomes

    async def get(self, command_id: str) -> Command:
        """A command with its state. Raises NotFound."""
        answer = await self._calls.call(self._stub.GetCommand, wire.GetCommandRequest(command_id=command_id))
        return command_of(answer.command, answer.state)

    async def result(self, command_id: str) -> CommandResult:
        """How a command ended. Raises FailedPrecondition while it has not, NotFound once that is no longer kept."""
        answer = await self._calls.call(self._stub.GetResult, wire.GetResultRequest(command_id=command_id))
        return result_of(answer.result)

    async def wait(self, command_id: str, timeout_seconds: float | None = None) -> CommandResult:
        """Wait until a command has ended. Raises TimeoutError if it has not after `timeout_seconds`."""
        result: CommandResult | None = None
        async for update in self.watch(command_id, with_output=False, timeout_seconds=timeout_seconds):
            if isinstance(update, CommandResult):
                result = update
        assert result is not None, "a watch ends with a result or an error"
        return result

    def wait_many(
        self, command_ids: Iterable[str], timeout_seconds: float | None = None
    ) -> AsyncGenerator[CommandState, None]:
        """Each of the commands once, as they end. Raises TimeoutError after `timeout_seconds` if some have not."""
        return self._wait_many(list(command_ids), Deadline(timeout_seconds))

    async def _wait_many(self, command_ids: Sequence[str], deadline: Deadline) -> AsyncGenerator[CommandState, None]:
        async with aclosing(self._watching.states(command_ids, deadline)) as states:
            async for state in states:
                if state.status.terminal:
                    yield state

    def watch_many(
        self, command_ids: Iterable[str], timeout_seconds: float | None = None
    ) -> AsyncGenerator[CommandState, None]:
        """How each of the commands is, now and at each change, until all have ended; without their output.

        Raises TimeoutError after `timeout_seconds` if some have not.
        """
        return self._watching.states(list(command_ids), Deadline(timeout_seconds))

    def watch(
        self,
        command_id: str,
        *,
        output_offset: int = 0,
        with_output: bool = True,
        hold_output: bool = False,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[values.Update, None]:
        """The state of a command now and at each change, its output from `output_offset`, at last its result.

        Goes on where it was after the server was away. Leaving the loop early leaves the command as it is. With
        `hold_output` a program that prints faster than this reads is slowed down rather than its output cut; what is
        cut all the same comes as an `OutputGap`.
        """
        request = wire.WatchCommandRequest(
            command_id=command_id,
            output_offset=output_offset,
            without_output=not with_output,
            hold_output=hold_output,
        )
        return self._watching.updates(request, Deadline(timeout_seconds))

    async def cancel(self, command_id: str, reason: str = "") -> CommandState:
        """Cancel a command, and say what became of it.

        One that runs is `assigned` in the answer, and `cancelled` once its agent stopped it.
        """
        request = wire.CancelCommandRequest(command_id=command_id, reason=reason)
        answer = await self._calls.call(self._stub.CancelCommand, request)
        return state_of(answer.command)

    async def list_page(
        self, where: values.CommandFilter = ALL_COMMANDS, *, page_size: int = 0, page_token: str = ""
    ) -> values.Page[CommandState]:
        """One page of commands, newest first. `page_size` up to 1,000; 0 is the server's default."""
        request = wire.ListCommandsRequest(page_size=page_size, page_token=page_token, filter=wire_filter(where))
        answer = await self._calls.call(self._stub.ListCommands, request)
        return values.Page(tuple(state_of(row) for row in answer.commands), answer.next_page_token)

    async def list(self, where: values.CommandFilter = ALL_COMMANDS) -> AsyncGenerator[CommandState, None]:
        """Every command that `where` lets through, newest first."""
        token = ""
        while True:
            page = await self.list_page(where, page_size=MAX_PAGE, page_token=token)
            for state in page.items:
                yield state
            token = page.next_page_token
            if not token:
                return

    async def agents_page(
        self, statuses: Sequence[AgentStatus] = (), *, page_size: int = 0, page_token: str = ""
    ) -> values.Page[AgentInfo]:
        """One page of agents, by id. `page_size` up to 1,000; 0 is the server's default."""
        request = wire.ListAgentsRequest(
            page_size=page_size, page_token=page_token, statuses=[wire_agent_status(status) for status in statuses]
        )
        answer = await self._calls.call(self._stub.ListAgents, request)
        return values.Page(tuple(agent_of(agent) for agent in answer.agents), answer.next_page_token)

    async def agents(self, statuses: Sequence[AgentStatus] = ()) -> AsyncGenerator[AgentInfo, None]:
        """Every agent in one of `statuses`, by id; every agent where none is given."""
        token = ""
        while True:
            page = await self.agents_page(statuses, page_size=MAX_PAGE, page_token=token)
            for agent in page.items:
                yield agent
            token = page.next_page_token
            if not token:
                return

    async def agent(self, agent_id: str) -> AgentInfo:
        """One agent. Raises NotFound if it has never connected."""
        answer = await self._calls.call(self._stub.GetAgent, wire.GetAgentRequest(agent_id=agent_id))
        return agent_of(answer.agent)

    @property
    def _stub(self) -> CommandServiceAsyncStub:
        if self._opened is None:
            raise RuntimeError(_UNOPENED)
        return self._opened

    @property
    def _watching(self) -> Watching:
        if self._watches is None:
            raise RuntimeError(_UNOPENED)
        return self._watches


def _minted_key() -> str:
    return uuid.uuid4().hex
