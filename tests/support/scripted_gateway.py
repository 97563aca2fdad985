"""A gateway that a test scripts: a real grpc.aio server whose servicer hands each stream to the test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio

from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import agent_gateway_pb2_grpc as gateway_grpc
from distributor.v1 import command_pb2
from distributor.wire.transport import ERROR_DETAILS_KEY, server_options
from tests.support.free_port import free_port
from tests.support.waiting import PATIENCE_SECONDS


@dataclass
class ScriptedSession:
    """One attached stream. `send()` goes to the agent; `next()` and `until()` read what it said."""

    hello: gateway.Hello
    context: Any
    received: asyncio.Queue[gateway.ConnectRequest | None] = field(default_factory=asyncio.Queue)
    seen: list[gateway.ConnectRequest] = field(default_factory=list)
    ack_results: bool = True
    ack_output: bool = True
    answer_heartbeats: bool = True
    half_closed: bool = False
    """Whether the agent ended its side in order, instead of dropping the stream."""
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _abort: grpc.StatusCode | None = None

    async def send(self, message: gateway.ConnectResponse) -> None:
        # The test and the automatic answers may want to write at once, which gRPC does not allow.
        async with self._writing:
            await self.context.write(message)

    async def welcome(self, **changes: Any) -> None:
        await self.send(welcome(**changes))

    async def command(self, *assignments: gateway.Assignment, after_heartbeat: int = 0) -> None:
        commands = gateway.Commands(assignments=assignments, after_heartbeat=after_heartbeat)
        await self.send(gateway.ConnectResponse(commands=commands))

    async def cancel(self, command_id: str) -> None:
        await self.send(gateway.ConnectResponse(cancels=[gateway.Cancel(command_id=command_id)]))

    async def next(self) -> gateway.ConnectRequest | None:
        """The agent's next message, None at the end of the stream."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.received.get()

    async def until(self, wanted: Callable[[list[gateway.ConnectRequest]], bool]) -> None:
        """Wait until everything seen so far satisfies `wanted`; fails when the stream ends before."""
        while not wanted(self.seen):
            if await self.next() is None:
                raise AssertionError(f"the stream ended first, the agent had said: {self.seen}")

    async def result(self, command_id: str) -> gateway.Result:
        """The command's result, waited for."""
        await self.until(lambda seen: any(r.command_id == command_id for m in seen for r in m.results))
        return next(r for m in self.seen for r in m.results if r.command_id == command_id)

    async def started(self, command_id: str) -> None:
        await self.until(lambda seen: any(s.command_id == command_id for m in seen for s in m.started))

    async def refused(self, command_id: str) -> gateway.Refused:
        await self.until(lambda seen: any(r.command_id == command_id for m in seen for r in m.refused))
        return next(r for m in self.seen for r in m.refused if r.command_id == command_id)

    def output(self, command_id: str, stream: int = 0) -> bytes:
        """What the command printed so far, in order; one stream of it or both (0)."""
        parts = [o for m in self.seen for o in m.output if o.command_id == command_id]
        return b"".join(o.data for o in parts if stream in (0, o.stream))

    def said_goodbye(self) -> bool:
        return any(message.HasField("goodbye") for message in self.seen)

    def drop(self, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE) -> None:
        """End the stream from this side, without a word to the agent."""
        self._abort = code
        self._over.set()

    async def run(self) -> None:
        reading = asyncio.create_task(self._read())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if self._abort:
            # The pending read is not cancelled: that would break the stream before the status is sent.
            async with self._writing:
                await self.context.abort(self._abort, "scripted")

    async def _read(self) -> None:
        while (message := await self.context.read()) is not aio.EOF:
            self.seen.append(message)
            await self._answer(message)
            self.received.put_nowait(message)
        # A half-closed stream still takes messages; a dropped one does not.
        with suppress(aio.BaseError, asyncio.InvalidStateError):
            await self.send(gateway.ConnectResponse())
            self.half_closed = True
        self.received.put_nowait(None)

    async def _answer(self, message: gateway.ConnectRequest) -> None:
        answer = gateway.ConnectResponse()
        if self.answer_heartbeats and message.HasField("heartbeat"):
            answer.heartbeat_reply.sequence = message.heartbeat.sequence
        if self.ack_output:
            for output in message.output:
                end = output.offset + len(output.data)
                answer.output_acks.add(command_id=output.command_id, lease_id=output.lease_id, offset=end)
        if self.ack_results:
            for result in message.results:
                answer.result_acks.add(
                    command_id=result.command_id, lease_id=result.lease_id, verdict=gateway.RESULT_VERDICT_STORED
                )
        if answer.ListFields():
            await self.send(answer)


class ScriptedGateway(gateway_grpc.AgentGatewayServiceServicer):
    """Hands each attached stream to the test. `refuse` makes it answer the next Hellos with these codes."""

    def __init__(self, port: int) -> None:
        self.sessions: asyncio.Queue[ScriptedSession] = asyncio.Queue()
        self.refuse: list[grpc.StatusCode] = []
        self.retry_after_seconds: float | None = None
        self.hellos = 0
        self.port = port
        self._server: aio.Server | None = None

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        first = await context.read()
        if first is aio.EOF:
            return
        self.hellos += 1
        if self.refuse:
            await context.abort(self.refuse.pop(0), "refused by the script", self._details())
        session = ScriptedSession(first.hello, context)
        self.sessions.put_nowait(session)
        await session.run()

    def _details(self) -> tuple[tuple[str, bytes], ...]:
        if self.retry_after_seconds is None:
            return ()
        status, info = Status(), RetryInfo()
        info.retry_delay.FromMilliseconds(round(self.retry_after_seconds * 1_000))
        status.details.add().Pack(info)
        return ((ERROR_DETAILS_KEY, status.SerializeToString()),)

    async def session(self, **welcome_changes: Any) -> ScriptedSession:
        """The next attached stream, welcomed."""
        session = await self.attached()
        await session.welcome(**welcome_changes)
        return session

    async def attached(self) -> ScriptedSession:
        """The next attached stream, not welcomed yet."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.sessions.get()

    async def start(self) -> None:
        """Listen; again on the same port after a stop."""
        self._server = aio.server(options=server_options())
        gateway_grpc.add_AgentGatewayServiceServicer_to_server(self, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        if self._server:
            await self._server.stop(0)


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """A gateway listening on a free port of loopback."""
    with free_port() as port:
        served = ScriptedGateway(port)
        await served.start()
        try:
            yield served
        finally:
            await served.stop()


def welcome(
    *,
    heartbeat_interval: float = 10.0,
    start_within: float = 15.0,
    max_output: int = 262_144,
    verdicts: tuple[gateway.HeldCommandVerdict, ...] = (),
    accepts_gzip: bool = False,
) -> gateway.ConnectResponse:
    """A Welcome with the defaults of a real server."""
    message = gateway.ConnectResponse()
    message.welcome.epoch = 1
    message.welcome.heartbeat_interval.FromNanoseconds(int(heartbeat_interval * 1e9))
    message.welcome.start_within.FromNanoseconds(int(start_within * 1e9))
    message.welcome.limits.max_result_bytes = 262_144
    message.welcome.limits.max_output_chunk_bytes = 65_536
    message.welcome.limits.max_unacknowledged_output_bytes = max_output
    message.welcome.verdicts.extend(verdicts)
    message.welcome.accepts_gzip = accepts_gzip
    return message


def assignment(
    command_id: str, command_type: str = "PING", *, time_limit: float | None = 300.0, attempt: int = 1, **params: Any
) -> gateway.Assignment:
    """A command as the server gives it out, under the lease `lease-<id>-<attempt>`."""
    command = command_pb2.Command(command_id=command_id, agent_id="agent123", type=command_type)
    command.params.update(params)
    if time_limit is not None:
        command.time_limit.FromNanoseconds(int(time_limit * 1e9))
    return gateway.Assignment(command=command, attempt=attempt, lease_id=f"lease-{command_id}-{attempt}")
