"""The client with which a Python service queues commands and follows them."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncGenerator, Callable, Iterable, Sequence
from contextlib import aclosing, asynccontextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, cast

from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from distributor.client import values
from distributor.client.audit_client import AuditClient
from distributor.client.delegated_channels import DelegatedChannels
from distributor.client.emergency_client import EmergencyClient
from distributor.client.identity_client import IdentityClient
from distributor.client.options import ClientOptions
from distributor.client.packed_stub import packed_stub
from distributor.client.queue_calls import QueueCalls
from distributor.client.queued_command import QueuedCommand
from distributor.client.reconnecting import Deadline
from distributor.client.service_client import Channels, ServiceClient, opened
from distributor.client.translation import (
    agent_of,
    batches,
    command_of,
    outcome_of,
    queued_of,
    result_of,
    retries_of,
    state_of,
    wire_agent_status,
    wire_filter,
    wire_request,
)
from distributor.client.watch_streams import WatchStreams
from distributor.errors import DistributorError, Unavailable
from distributor.model.agent import AgentInfo, AgentStatus
from distributor.model.command import Command, CommandResult, CommandState
from distributor.model.delivery import Update
from distributor.model.listing import CommandFilter, Page
from distributor.model.queueing import CommandRequest
from distributor.settings.caller_settings import load_caller_settings
from distributor.v1 import command_service_pb2 as wire
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.compression import Compression
from distributor.wire.credentials import ClientCredentials
from distributor.wire.limits import MAX_PAGE
from distributor.wire.message_packer import MessagePacker

if TYPE_CHECKING:
    import grpc

    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

ALL_COMMANDS: Final = CommandFilter()


class CommandClient(ServiceClient["CommandServiceAsyncStub"]):
    """Queues, watches, cancels and lists commands, and lists agents.

        async with CommandClient("127.0.0.1:50051") as client:
            queued = await client.queue(CommandRequest("agent123", "PING"))
            result = await client.wait(queued.command_id, timeout_seconds=30)

    `async with` opens one connection, which any number of tasks of that event loop may share. Failed calls raise errors
    of `distributor.errors`. Calls are retried while the server is unavailable, within the bounds of `ClientOptions`;
    queueing is safe to retry because each command has an idempotency key.

    `target` may name several servers that share a Valkey, separated by commas: when one stops or cannot be reached, the
    client goes on with another. Servers beyond loopback are reached over TLS; see `ClientOptions.credentials`.
    """

    def __init__(self, target: str, options: ClientOptions | None = None) -> None:
        super().__init__(target, options)
        self._open_streams: WatchStreams | None = None
        self._open_queueing: QueueCalls | None = None

    @classmethod
    def configured(cls, context: str | None = None) -> Self:
        """A client of the server that `command-sender` calls, with the same credentials; `context` as --context there.

        Raises ConfigurationError, and NotFound if there is no such context.
        """
        settings = load_caller_settings(context=context).settings
        options = ClientOptions(
            compression=Compression(settings.compression == "gzip", settings.compression_threshold),
            credentials=ClientCredentials.of(settings),
        )
        return cls(settings.server, options)

    def emergency(self) -> EmergencyClient:
        """A client for emergency stops on the same connection, as the same caller."""
        return EmergencyClient.over(self._channels, self.target, self._options)

    def audit(self) -> AuditClient:
        """A client of the audit trail on the same connection, as the same caller."""
        return AuditClient.over(self._channels, self.target, self._options)

    @asynccontextmanager
    async def on_behalf_of(self, token: Callable[[], str], address: str = "") -> AsyncGenerator[CommandClient, None]:
        """A client on the same connection that calls on behalf of a user, as a service of the role `delegate` may.

        `token` returns the user's token for each call. The server permits what the user may do, and no more. `address`
        is the IP address of the user, which the server records instead of the service's; left out if it is none.
        """
        client = CommandClient.over(DelegatedChannels(self._own_channels, token, address), self.target, self._options)
        try:
            yield client
        finally:
            await client._queueing.close()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._open_queueing is not None:
            await self._open_queueing.close()
        await super().__aexit__(kind, error, traceback)
        self._open_streams = self._open_queueing = None

    async def queue(self, request: CommandRequest, *, hold_output: bool = False) -> QueuedCommand:
        """Queue one command. It is stored when this returns; the agent need not be connected.

        Any number of tasks may call this at the same time: while one request is in flight, the commands of others
        gather and travel together, with their own answers, retries and deadlines.
        Set `hold_output` if a `watch` with `hold_output` follows, so that no output is lost before it begins.
        """
        wired = wire_request(request, request.idempotency_key or _minted_key(), self._options.signer)
        wired.hold_output = hold_output
        answer = await self._calls.call(self._queueing.call, wired)
        # A minted key can only have been used by an earlier try of this call.
        already_queued = answer.already_queued and bool(request.idempotency_key)
        return QueuedCommand(wired, answer, already_queued)

    async def queue_many(self, requests: Iterable[CommandRequest]) -> list[values.QueueOutcome]:
        """Queue any number of commands, in order; one outcome for each, in the same order.

        Sends up to 1,000 commands per call, and again those that the server could not store. Raises if the first call
        fails. If a later call fails, its error is the outcome of each command not queued yet.
        """
        requests = list(requests)
        wired = [
            wire_request(request, request.idempotency_key or _minted_key(), self._options.signer)
            for request in requests
        ]
        outcomes: list[values.QueueOutcome] = []
        for batch in batches(wired):
            try:
                answer = await self._calls.call(self._stub.QueueCommands, wire.QueueCommandsRequest(requests=batch))
            except DistributorError as error:
                if not outcomes:
                    raise
                return outcomes + [error] * (len(requests) - len(outcomes))
            own_keys = [bool(request.idempotency_key) for request in requests[len(outcomes) :][: len(batch)]]
            answered = [outcome_of(outcome, own) for outcome, own in zip(answer.outcomes, own_keys, strict=True)]
            away = [place for place, outcome in enumerate(answered) if isinstance(outcome, Unavailable)]
            again = await asyncio.gather(*(self._queue_again(batch[place], own_keys[place]) for place in away))
            for place, outcome in zip(away, again, strict=True):
                answered[place] = outcome
            outcomes += answered
        return outcomes

    async def _queue_again(self, request: wire.QueueCommandRequest, own_key: bool) -> values.QueueOutcome:
        """Queue a command of a batch under the same key, after the store went away before or while storing it."""
        try:
            return queued_of(await self._calls.call(self._queueing.call, request), own_key)
        except DistributorError as error:
            return error

    async def get(self, command_id: str) -> Command:
        """Get a command with its state, and a late report if there is one. Raises NotFound."""
        answer = await self._calls.call(self._stub.GetCommand, wire.GetCommandRequest(command_id=command_id))
        command = command_of(answer.command, answer.state)
        if answer.HasField("late_result"):
            command = command._replace(late_result=result_of(answer.late_result))
        return command

    async def result(self, command_id: str) -> CommandResult:
        """Get the result of a command. Raises FailedPrecondition if it has not ended, NotFound if no longer stored."""
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
        """Yield each command once, when it ends. Raises TimeoutError if some have not after `timeout_seconds`."""
        return self._wait_many(list(command_ids), Deadline(timeout_seconds))

    async def _wait_many(self, command_ids: Sequence[str], deadline: Deadline) -> AsyncGenerator[CommandState, None]:
        async with aclosing(self._streams.states(command_ids, deadline)) as states:
            async for state in states:
                if state.status.terminal:
                    yield state

    def watch_many(
        self, command_ids: Iterable[str], timeout_seconds: float | None = None
    ) -> AsyncGenerator[CommandState, None]:
        """Yield the state of each command now and after each change, until all have ended. Output is not included.

        Raises TimeoutError if some have not ended after `timeout_seconds`.
        """
        return self._streams.states(list(command_ids), Deadline(timeout_seconds))

    def watch(
        self,
        command_id: str,
        *,
        output_offset: int = 0,
        with_output: bool = True,
        hold_output: bool = False,
        timeout_seconds: float | None = None,
    ) -> AsyncGenerator[Update, None]:
        """Yield the state of a command now and after each change, its output from `output_offset`, and its result.

        Resumes after the server was unavailable. Leaving the loop early does not affect the command. With
        `hold_output`, a program that prints faster than this reads is slowed down instead of losing output; output
        lost anyway comes as an `OutputGap`. Raises TimeoutError after `timeout_seconds`.
        """
        request = wire.WatchCommandRequest(
            command_id=command_id,
            output_offset=output_offset,
            without_output=not with_output,
            hold_output=hold_output,
        )
        return self._streams.updates(request, Deadline(timeout_seconds))

    async def cancel(self, command_id: str, reason: str = "") -> CommandState:
        """Cancel a command and return its state.

        A running command is still `assigned` in the answer, and `cancelled` once its agent has stopped it.
        """
        request = wire.CancelCommandRequest(command_id=command_id, reason=reason)
        answer = await self._calls.call(self._stub.CancelCommand, request)
        return state_of(answer.command)

    async def retry_commands(
        self,
        command_ids: Sequence[str] = (),
        where: CommandFilter = ALL_COMMANDS,
        *,
        limit: int = 0,
        dry_run: bool = False,
        idempotency_key: str = "",
    ) -> values.Retries:
        """Queue ended commands again, each as a new command whose `retry_of` names the old.

        Takes up to 1,000 `command_ids`, or `where`, with at least one field set: the newest `limit` commands that match
        (0: up to 1,000). Without statuses in `where`, those that failed, timed out or were cancelled match; whether a
        command has been retried before does not matter. With `dry_run`, they are only counted. A command that cannot be
        queued again has an error as its outcome: FailedPrecondition if it has not ended, NotFound if it is no longer
        stored. The same `idempotency_key`, at most 100 characters, retries each command once; without one, the client
        mints a key for its own retries. Raises InvalidArgument for invalid arguments.
        """
        request = wire.RetryCommandsRequest(
            command_ids=command_ids,
            filter=wire_filter(where),
            dry_run=dry_run,
            limit=limit,
            idempotency_key=idempotency_key or _minted_key(),
        )
        return retries_of(await self._calls.call(self._stub.RetryCommands, request))

    async def list_page(
        self, where: CommandFilter = ALL_COMMANDS, *, page_size: int = 0, page_token: str = ""
    ) -> Page[CommandState]:
        """Get one page of commands, newest first. `page_size` up to 1,000; 0 is the server's default."""
        request = wire.ListCommandsRequest(page_size=page_size, page_token=page_token, filter=wire_filter(where))
        answer = await self._calls.call(self._stub.ListCommands, request)
        return Page(tuple(state_of(row) for row in answer.commands), answer.next_page_token)

    async def list(self, where: CommandFilter = ALL_COMMANDS) -> AsyncGenerator[CommandState, None]:
        """Yield every command that matches `where`, newest first."""
        token = ""
        while True:
            page = await self.list_page(where, page_size=MAX_PAGE, page_token=token)
            for state in page.items:
                yield state
            token = page.next_page_token
            if not token:
                return

    async def check(self) -> tuple[str, ...]:
        """Check that the server serves and accepts this client's credentials; return what is unsafe about it.

        That is any of `unauthenticated`, `plain_text` (gRPC for other hosts) and `plain_http` (its metrics).
        Raises Unavailable, and Unauthenticated for credentials that do not count.
        """
        health: Any = HealthStub(cast("grpc.aio.Channel", self._channels))
        answer = await self._calls.call(health.Check, HealthCheckRequest())
        if answer.status != HealthCheckResponse.SERVING:
            raise Unavailable(f"the server at {self.target} is not serving", reason="NOT_SERVING")
        identity = await IdentityClient.over(self._channels, self.target, self._options).who_am_i()
        return identity.insecure

    async def agents_page(
        self, statuses: Sequence[AgentStatus] = (), *, page_size: int = 0, page_token: str = ""
    ) -> Page[AgentInfo]:
        """Get one page of agents, by id. `page_size` up to 1,000; 0 is the server's default."""
        request = wire.ListAgentsRequest(
            page_size=page_size, page_token=page_token, statuses=[wire_agent_status(status) for status in statuses]
        )
        answer = await self._calls.call(self._stub.ListAgents, request)
        return Page(tuple(agent_of(agent) for agent in answer.agents), answer.next_page_token)

    async def agents(self, statuses: Sequence[AgentStatus] = ()) -> AsyncGenerator[AgentInfo, None]:
        """Yield every agent in one of `statuses`, or every agent if empty, by id."""
        token = ""
        while True:
            page = await self.agents_page(statuses, page_size=MAX_PAGE, page_token=token)
            for agent in page.items:
                yield agent
            token = page.next_page_token
            if not token:
                return

    async def agent(self, agent_id: str) -> AgentInfo:
        """Get one agent. Raises NotFound if it has never connected."""
        answer = await self._calls.call(self._stub.GetAgent, wire.GetAgentRequest(agent_id=agent_id))
        return agent_of(answer.agent)

    def _open(self, channels: Channels) -> None:
        super()._open(channels)
        self._open_streams = WatchStreams(self._stub, self.target, self._options)
        self._open_queueing = QueueCalls(self._stub, self.target)

    def _make_stub(self, channel: grpc.aio.Channel) -> CommandServiceAsyncStub:
        return packed_stub(CommandServiceStub(channel), MessagePacker(self._options.compression))

    @property
    def _queueing(self) -> QueueCalls:
        return opened(self._open_queueing)

    @property
    def _streams(self) -> WatchStreams:
        return opened(self._open_streams)


def _minted_key() -> str:
    return os.urandom(16).hex()
