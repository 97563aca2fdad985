"""A CommandService in memory: keeps commands, moves them when a test says so, and wakes the watchers."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf import json_format
from google.protobuf.timestamp_pb2 import Timestamp

from distributor.v1 import command_pb2, command_service_pb2_grpc
from distributor.v1 import command_service_pb2 as wire
from distributor.wire.transport import server_options
from tests.support.answered_errors import Refusal, abort

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
FAILED = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED
QUEUED = command_pb2.COMMAND_STATUS_QUEUED
ASSIGNED = command_pb2.COMMAND_STATUS_ASSIGNED
TERMINAL = (COMPLETED, FAILED, TIMEOUT, CANCELLED)

FIRST_MS = 1_800_000_000_000
"""The clock of this service: it starts here and moves on by a second with each change."""


@dataclass
class StoredCommand:
    """One command and all that happened to it."""

    command: command_pb2.Command
    state: command_pb2.CommandState
    chunks: list[command_pb2.OutputChunk] = dataclasses.field(default_factory=list)
    result: command_pb2.CommandResult | None = None
    dropped_bytes: int = 0

    def told_state(self) -> command_pb2.CommandState:
        """The state as a list tells it: of the agent and the output, only QueueCommand and GetCommand know."""
        state = command_pb2.CommandState()
        state.CopyFrom(self.state)
        for name in ("agent_known", "agent_away_since", "output_bytes"):
            state.ClearField(name)
        return state

    def summary(self) -> wire.CommandSummary:
        command = self.command
        return wire.CommandSummary(
            command_id=command.command_id,
            agent_id=command.agent_id,
            type=command.type,
            priority=command.priority,
            state=self.told_state(),
            params_summary=", ".join(sorted(command.params.fields)),
        )

    def watched_summary(self) -> wire.CommandSummary:
        """As a watch of this command tells it: with what is known of the agent."""
        summary = self.summary()
        if self.state.status == QUEUED:
            summary.state.agent_known = self.state.agent_known
            if self.state.HasField("agent_away_since"):
                summary.state.agent_away_since.CopyFrom(self.state.agent_away_since)
        return summary


class FakeCommandService(command_service_pb2_grpc.CommandServiceServicer):
    """Watchers see each change in order. `on_queued` may move a command on as soon as it is queued."""

    def __init__(self) -> None:
        self.commands: dict[str, StoredCommand] = {}
        self.agents: dict[str, wire.Agent] = {}
        self.refusals: dict[str, list[Refusal]] = {}
        self.calls: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.on_queued: Callable[[str], None] = lambda command_id: None
        self.lose_answers = 0
        """How many of the coming QueueCommand calls store the command and then fail with UNAVAILABLE."""
        self.cut_streams_after: list[int] = []
        """How many messages each coming stream may carry before it is cut with UNAVAILABLE."""
        self._keys: dict[str, tuple[bytes, str]] = {}
        self._changed = asyncio.Event()
        self._now_ms = FIRST_MS

    # What a test does

    def connect_agent(self, agent_id: str, **fields: Any) -> None:
        self.agents[agent_id] = wire.Agent(
            agent_id=agent_id,
            status=wire.AGENT_STATUS_ONLINE,
            capacity=1,
            epoch=1,
            last_seen_time=self._now(),
            **fields,
        )

    def disconnect_agent(self, agent_id: str) -> None:
        agent = self.agents[agent_id]
        agent.status = wire.AGENT_STATUS_OFFLINE
        agent.away_since.CopyFrom(self._now())

    def start(self, command_id: str) -> None:
        state = self.commands[command_id].state
        state.status = ASSIGNED
        state.attempt = 1
        state.ClearField("agent_known")
        state.ClearField("agent_away_since")
        for name in ("assign_time", "send_time", "acknowledge_time", "start_time"):
            getattr(state.receipts, name).CopyFrom(self._now())
        self._wake()

    def write_output(self, command_id: str, data: bytes, stderr: bool = False) -> None:
        stored = self.commands[command_id]
        stream = command_pb2.OUTPUT_STREAM_STDERR if stderr else command_pb2.OUTPUT_STREAM_STDOUT
        stored.chunks.append(
            command_pb2.OutputChunk(
                command_id=command_id,
                stream=stream,
                offset=stored.state.output_bytes,
                data=data,
                receive_time=self._now(),
            )
        )
        stored.state.output_bytes += len(data)
        self._wake()

    def drop_output(self, command_id: str, up_to: int) -> None:
        """Forget whole chunks that end at or before `up_to`."""
        stored = self.commands[command_id]
        stored.chunks = [chunk for chunk in stored.chunks if chunk.offset >= up_to]
        stored.dropped_bytes = up_to

    def finish(
        self,
        command_id: str,
        status: command_pb2.CommandStatus.ValueType = COMPLETED,
        *,
        exit_code: int | None = None,
        data: Any = None,
        reason: str = "",
    ) -> None:
        stored = self.commands[command_id]
        stored.state.status = status
        stored.state.ClearField("agent_known")
        stored.state.ClearField("agent_away_since")
        stored.state.receipts.finish_time.CopyFrom(self._now())
        stored.state.reason.CopyFrom(command_pb2.Reason(code=reason, message=reason.replace("_", " ")))
        stored.result = command_pb2.CommandResult(
            command_id=command_id,
            agent_id=stored.command.agent_id,
            type=stored.command.type,
            status=status,
            attempt=stored.state.attempt,
            reason=stored.state.reason,
            exit_code=exit_code,
            output_bytes=stored.state.output_bytes,
            output_dropped_bytes=stored.dropped_bytes,
            finish_time=stored.state.receipts.finish_time,
        )
        if data is not None:
            json_format.ParseDict(data, stored.result.data)
        self._wake()

    def end_each(self, *outcome: Any, output: bytes = b"", **how: Any) -> None:
        """From now on every command runs, prints `output` and ends as `finish` is told, as soon as it is queued."""

        def run(command_id: str) -> None:
            self.start(command_id)
            if output:
                self.write_output(command_id, output)
            self.finish(command_id, *outcome, **how)

        self.on_queued = run

    def refuse(self, method: str, refusal: Refusal, times: int = 1) -> None:
        self.refusals.setdefault(method, []).extend([refusal] * times)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait for a change that makes `condition` true."""
        while not condition():
            await self._changed.wait()

    # The calls

    async def QueueCommand(self, request: wire.QueueCommandRequest, context: Any) -> wire.QueueCommandResponse:
        await self._enter("QueueCommand", request, context)
        answer = self._queue(request)
        if isinstance(answer, Refusal):
            await abort(context, answer)
        if self.lose_answers:
            self.lose_answers -= 1
            await abort(context, Refusal(grpc.StatusCode.UNAVAILABLE, "going away"))
        command_id, already = answer
        stored = self.commands[command_id]
        return wire.QueueCommandResponse(command=stored.command, state=stored.state, already_queued=already)

    async def QueueCommands(self, request: wire.QueueCommandsRequest, context: Any) -> wire.QueueCommandsResponse:
        await self._enter("QueueCommands", request, context)
        if len(request.requests) > 1_000:
            await abort(context, Refusal(grpc.StatusCode.INVALID_ARGUMENT, "too many", "BATCH_TOO_LARGE", "requests"))
        return wire.QueueCommandsResponse(outcomes=[self._outcome(one) for one in request.requests])

    async def GetCommand(self, request: wire.GetCommandRequest, context: Any) -> wire.GetCommandResponse:
        await self._enter("GetCommand", request, context)
        stored = await self._known(request.command_id, context)
        return wire.GetCommandResponse(command=stored.command, state=stored.state)

    async def GetResult(self, request: wire.GetResultRequest, context: Any) -> wire.GetResultResponse:
        await self._enter("GetResult", request, context)
        stored = await self._known(request.command_id, context)
        if stored.result is None:
            await abort(context, Refusal(grpc.StatusCode.FAILED_PRECONDITION, "the command has not ended", "NOT_ENDED"))
        return wire.GetResultResponse(result=stored.result)

    async def ListCommands(self, request: wire.ListCommandsRequest, context: Any) -> wire.ListCommandsResponse:
        await self._enter("ListCommands", request, context)
        wanted = request.filter
        rows = [
            stored.summary()
            for stored in reversed(self.commands.values())
            if (not wanted.agent_id or stored.command.agent_id == wanted.agent_id)
            and (not wanted.type or stored.command.type == wanted.type)
            and (not wanted.statuses or stored.state.status in wanted.statuses)
        ]
        rows, token = await _page(rows, request, context, 50)
        return wire.ListCommandsResponse(commands=rows, next_page_token=token)

    async def CancelCommand(self, request: wire.CancelCommandRequest, context: Any) -> wire.CancelCommandResponse:
        await self._enter("CancelCommand", request, context)
        stored = await self._known(request.command_id, context)
        if stored.state.status == QUEUED:
            self.finish(request.command_id, CANCELLED, reason="cancelled_by_caller")
        elif stored.state.status == ASSIGNED:
            stored.state.cancel_time.CopyFrom(self._now())
            self._wake()
        return wire.CancelCommandResponse(command=stored.summary())

    async def ListAgents(self, request: wire.ListAgentsRequest, context: Any) -> wire.ListAgentsResponse:
        await self._enter("ListAgents", request, context)
        agents = [
            agent
            for _, agent in sorted(self.agents.items())
            if not request.statuses or agent.status in request.statuses
        ]
        agents, token = await _page(agents, request, context, 100)
        return wire.ListAgentsResponse(agents=agents, next_page_token=token)

    async def GetAgent(self, request: wire.GetAgentRequest, context: Any) -> wire.GetAgentResponse:
        await self._enter("GetAgent", request, context)
        if request.agent_id not in self.agents:
            await abort(context, Refusal(grpc.StatusCode.NOT_FOUND, f"no agent {request.agent_id}", "AGENT_NOT_FOUND"))
        return wire.GetAgentResponse(agent=self.agents[request.agent_id])

    async def WatchCommand(
        self, request: wire.WatchCommandRequest, context: Any
    ) -> AsyncIterator[wire.WatchCommandResponse]:
        await self._enter("WatchCommand", request, context)
        stored = await self._known(request.command_id, context)
        budget = self._stream_budget()
        async for update in self._updates(stored, request):
            if budget == 0:
                await abort(context, Refusal(grpc.StatusCode.UNAVAILABLE, "going away"))
            budget -= 1
            yield update

    async def WatchCommands(
        self, request: wire.WatchCommandsRequest, context: Any
    ) -> AsyncIterator[wire.WatchCommandsResponse]:
        await self._enter("WatchCommands", request, context)
        for command_id in request.command_ids:
            await self._known(command_id, context)
        budget = self._stream_budget()
        told: dict[str, bytes] = {}
        while True:
            changed = self._changed
            fresh = [self.commands[one].summary() for one in request.command_ids]
            fresh = [one for one in fresh if told.get(one.command_id) != one.SerializeToString(deterministic=True)]
            if fresh:
                if budget == 0:
                    await abort(context, Refusal(grpc.StatusCode.UNAVAILABLE, "going away"))
                budget -= 1
                told |= {one.command_id: one.SerializeToString(deterministic=True) for one in fresh}
                yield wire.WatchCommandsResponse(commands=fresh)
            elif all(self.commands[one].result for one in request.command_ids):
                return
            else:
                await changed.wait()

    # How it does it

    async def _updates(
        self, stored: StoredCommand, request: wire.WatchCommandRequest
    ) -> AsyncIterator[wire.WatchCommandResponse]:
        offset = request.output_offset
        told = b""
        while True:
            changed = self._changed
            summary = stored.watched_summary()
            if told != (told := summary.SerializeToString(deterministic=True)):
                yield wire.WatchCommandResponse(command=summary)
            if not request.without_output:
                if offset < stored.dropped_bytes:
                    gap = wire.OutputGap(begin_offset=offset, end_offset=stored.dropped_bytes)
                    offset = stored.dropped_bytes
                    yield wire.WatchCommandResponse(gap=gap)
                for chunk in list(stored.chunks):
                    # Whole chunks only: the client has to cut what it has seen.
                    if chunk.offset + len(chunk.data) > offset:
                        offset = chunk.offset + len(chunk.data)
                        yield wire.WatchCommandResponse(output=chunk)
            if changed is not self._changed:
                continue
            if stored.result is not None:
                yield wire.WatchCommandResponse(result=stored.result)
                return
            await changed.wait()

    def _queue(self, request: wire.QueueCommandRequest) -> tuple[str, bool] | Refusal:
        wanted = request.command
        if wanted.HasField("priority") and not 0 <= wanted.priority <= 100:
            message = f"command.priority must be 0 to 100, not {wanted.priority}"
            return Refusal(
                grpc.StatusCode.INVALID_ARGUMENT, message, "PRIORITY_OUT_OF_RANGE", "command.priority", {"limit": "100"}
            )
        content = wanted.SerializeToString(deterministic=True)
        if request.idempotency_key in self._keys:
            before, command_id = self._keys[request.idempotency_key]
            if before != content:
                message = "idempotency_key belongs to another command"
                return Refusal(grpc.StatusCode.ALREADY_EXISTS, message, "IDEMPOTENCY_KEY_REUSED", "idempotency_key")
            return command_id, True
        agent = self.agents.get(wanted.agent_id)
        away = agent is None or agent.status == wire.AGENT_STATUS_OFFLINE
        if away and wanted.offline_policy == command_pb2.OFFLINE_POLICY_FAIL:
            return Refusal(grpc.StatusCode.FAILED_PRECONDITION, f"{wanted.agent_id} is not connected", "AGENT_OFFLINE")
        return self._store(wanted, agent, request.idempotency_key, content), False

    def _store(self, wanted: command_pb2.Command, agent: wire.Agent | None, key: str, content: bytes) -> str:
        command = command_pb2.Command()
        command.CopyFrom(wanted)
        command.command_id = f"01980000-0000-7000-8000-{len(self.commands):012x}"
        command.priority = wanted.priority if wanted.HasField("priority") else 50
        command.max_runs = wanted.max_runs or 1
        if not wanted.HasField("time_limit"):
            command.time_limit.FromSeconds(300)
        if not wanted.HasField("queue_ttl"):
            command.queue_ttl.FromSeconds(86_400)
        receipts = command_pb2.Receipts(queue_time=self._now())
        state = command_pb2.CommandState(
            status=QUEUED, receipts=receipts, agent_known=agent is not None, output_bytes=0
        )
        if agent is not None and agent.HasField("away_since"):
            state.agent_away_since.CopyFrom(agent.away_since)
        self.commands[command.command_id] = StoredCommand(command, state)
        self._keys[key] = (content, command.command_id)
        self.on_queued(command.command_id)
        self._wake()
        return command.command_id

    def _outcome(self, request: wire.QueueCommandRequest) -> wire.QueueCommandOutcome:
        answer = self._queue(request)
        if isinstance(answer, Refusal):
            error = wire.QueueError(
                code=answer.code.name, reason=answer.reason, field=answer.field, message=answer.message
            )
            return wire.QueueCommandOutcome(error=error)
        agent = self.agents.get(request.command.agent_id)
        return wire.QueueCommandOutcome(
            command_id=answer[0],
            already_queued=answer[1],
            agent_connected=agent is not None and agent.status != wire.AGENT_STATUS_OFFLINE,
            agent_known=agent is not None,
        )

    async def _enter(self, method: str, request: Any, context: Any) -> None:
        self.calls[method] += 1
        self.requests.append(request)
        self._wake()
        if self.refusals.get(method):
            await abort(context, self.refusals[method].pop(0))

    async def _known(self, command_id: str, context: Any) -> StoredCommand:
        if command_id not in self.commands:
            message = f"no command {command_id}"
            await abort(context, Refusal(grpc.StatusCode.NOT_FOUND, message, "COMMAND_NOT_FOUND", "command_id"))
        return self.commands[command_id]

    def _stream_budget(self) -> int:
        return self.cut_streams_after.pop(0) if self.cut_streams_after else -1

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _now(self) -> Timestamp:
        self._now_ms += 1_000
        now = Timestamp()
        now.FromMilliseconds(self._now_ms)
        return now


async def _page(rows: list[Any], request: Any, context: Any, default: int) -> tuple[list[Any], str]:
    if request.page_token and not request.page_token.isdecimal():
        refusal = Refusal(
            grpc.StatusCode.INVALID_ARGUMENT, "page_token is malformed", "INVALID_PAGE_TOKEN", "page_token"
        )
        await abort(context, refusal)
    start = int(request.page_token or 0)
    end = start + (request.page_size or default)
    return rows[start:end], str(end) if end < len(rows) else ""


@asynccontextmanager
async def serve_fake(service: FakeCommandService, port: int = 0) -> AsyncIterator[str]:
    """Serve `service` on loopback; gives the address."""
    server = grpc.aio.server(options=server_options())
    command_service_pb2_grpc.add_CommandServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    try:
        yield f"127.0.0.1:{bound}"
    finally:
        await server.stop(None)
