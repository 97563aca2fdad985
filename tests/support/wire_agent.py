"""An agent reduced to messages: it sends what the test says, and records what it receives."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final, TypeVar

import grpc

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.wire.transport import channel_options
from tests.support.waiting import PATIENCE_SECONDS

T = TypeVar("T")

CONNECT: Final = "/distributor.v1.AgentGatewayService/Connect"


def hello(agent_id: str = "agent123", **changes: Any) -> pb.Hello:
    """A Hello that is right, but for the changes."""
    fields: dict[str, Any] = {"instance_id": "instance-1", "capacity": 5, "types": ["PING", "STOP", "PRINT", "EXEC"]}
    return pb.Hello(agent_id=agent_id, **fields | changes)


class WireAgent:
    """One stream. Reads all the time; each `until` waits, bounded, for something heard."""

    def __init__(self, call: Any) -> None:
        self.messages: list[pb.ConnectResponse] = []
        self.code: grpc.StatusCode | None = None
        """How the stream ended, None while it is open."""
        self.details = ""
        self.trailing: Any = None
        self._call = call
        self._changed = asyncio.Event()
        self._reader = asyncio.create_task(self._read())
        self._sequence = 0
        self.answers_probes = True
        """False for one whose connection is half open."""

    # Saying

    async def send(self, **parts: Any) -> None:
        """Send one message of these parts; where the server has ended the stream meanwhile, `until` tells."""
        try:
            await self._call.write(pb.ConnectRequest(**parts))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await self.ended()

    async def heartbeat(self, credit: int = 5, running: int = 0, **vitals: Any) -> None:
        """Send the next heartbeat and wait for its answer."""
        self._sequence += 1
        await self.send(heartbeat=pb.Heartbeat(sequence=self._sequence, credit=credit, running=running, **vitals))
        await self.until(lambda: self.answered_heartbeat == self._sequence)

    async def beat(self, seconds: float, credit: int) -> None:
        """Send heartbeats at this interval until cancelled."""
        while True:
            beat = asyncio.ensure_future(self.heartbeat(credit))
            try:
                await asyncio.shield(beat)
            except asyncio.CancelledError:
                # gRPC cancels the call if a pending write is cancelled.
                await beat
                raise
            await asyncio.sleep(seconds)

    async def start(self, *assignments: pb.Assignment) -> None:
        """Say that these are received and started."""
        held = [{"command_id": one.command.command_id, "lease_id": one.lease_id} for one in assignments]
        await self.send(received=[pb.Received(**one) for one in held], started=[pb.Started(**one) for one in held])

    async def finish(self, *assignments: pb.Assignment, **fields: Any) -> list[pb.ResultAck]:
        """Report results, completed unless told otherwise; returns how they were acknowledged."""
        results = [result(one, **fields) for one in assignments]
        return await self.report(*results)

    async def report(self, *results: pb.Result) -> list[pb.ResultAck]:
        """Report these results; returns how they were acknowledged, in order."""
        before = len(self.result_acks)
        await self.send(results=results)
        await self.until(lambda: len(self.result_acks) >= before + len(results))
        return self.result_acks[before : before + len(results)]

    async def refuse(
        self, assignment: pb.Assignment, code: pb.RefusalCode.ValueType, reason: command_pb2.Reason | None = None
    ) -> None:
        """Say that it was not started and why."""
        await self.send(
            refused=[
                pb.Refused(
                    command_id=assignment.command.command_id,
                    lease_id=assignment.lease_id,
                    code=code,
                    reason=reason,
                )
            ]
        )

    async def print(self, assignment: pb.Assignment, data: bytes, offset: int, stderr: bool = False) -> int:
        """Send output; returns the offset up to which it is acknowledged."""
        command_id = assignment.command.command_id
        stream = command_pb2.OUTPUT_STREAM_STDERR if stderr else command_pb2.OUTPUT_STREAM_STDOUT
        before = len(self.output_acks(command_id))
        await self.send(
            output=[
                pb.Output(command_id=command_id, lease_id=assignment.lease_id, stream=stream, offset=offset, data=data)
            ]
        )
        await self.until(lambda: len(self.output_acks(command_id)) > before)
        return self.output_acks(command_id)[-1]

    async def leave(self) -> None:
        """Goodbye, half-close, and wait for the end."""
        await self.send(goodbye=pb.Goodbye(reason="test"))
        await self._call.done_writing()
        await self.ended()

    async def vanish(self) -> None:
        """End the stream without a word."""
        self._call.cancel()
        await self._reader

    # Hearing

    @property
    def welcome(self) -> pb.Welcome:
        return self.messages[0].welcome

    @property
    def answered_heartbeat(self) -> int:
        return max((message.heartbeat_reply.sequence for message in self.messages), default=0)

    @property
    def assignments(self) -> list[pb.Assignment]:
        return [one for message in self.messages for one in message.commands.assignments]

    @property
    def command_ids(self) -> list[str]:
        """Ids of all commands that came, in order."""
        return [one.command.command_id for one in self.assignments]

    @property
    def cancels(self) -> list[pb.Cancel]:
        return [one for message in self.messages for one in message.cancels]

    @property
    def halts(self) -> list[pb.Halt]:
        """Those after the Welcome."""
        return [message.halt for message in self.messages if message.HasField("halt")]

    @property
    def resumed(self) -> list[str]:
        """The stops that were resumed."""
        return [message.resume.stop_id for message in self.messages if message.HasField("resume")]

    @property
    def result_acks(self) -> list[pb.ResultAck]:
        return [one for message in self.messages for one in message.result_acks]

    @property
    def drained(self) -> bool:
        return any(message.HasField("drain") for message in self.messages)

    def output_answers(self, command_id: str) -> list[pb.OutputAck]:
        """The answers to output of a command, in order."""
        return [one for message in self.messages for one in message.output_acks if one.command_id == command_id]

    def output_acks(self, command_id: str) -> list[int]:
        """Offsets acknowledged for a command, in order."""
        return [one.offset for one in self.output_answers(command_id)]

    async def until(self, found: Callable[[], T | None]) -> T:
        """What `found` returns as soon as it is true; fails when the stream ends before."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not (value := found()):
                assert self.code is None, f"the stream ended first: {self.code} {self.details}"
                self._changed.clear()
                await self._changed.wait()
        return value

    async def heard(self) -> None:
        """Return at the next message, or the end of the stream. For loops beside a test: not bounded."""
        self._changed.clear()
        await self._changed.wait()

    async def assigned(self, count: int = 1) -> list[pb.Assignment]:
        """All commands that came, once there are so many."""
        await self.until(lambda: len(self.assignments) >= count)
        return self.assignments

    async def next_assignment(self, command_id: str, attempt: int = 1) -> pb.Assignment:
        """The given attempt of a command, once it came."""
        return await self.until(
            lambda: next(
                (one for one in self.assignments if one.command.command_id == command_id and one.attempt == attempt),
                None,
            )
        )

    async def ended(self) -> grpc.StatusCode:
        """How the server ended the stream, waited for."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await asyncio.wait([self._reader])
        assert self.code is not None
        return self.code

    async def _read(self) -> None:
        try:
            while (message := await self._call.read()) is not grpc.aio.EOF:
                self.messages.append(message)
                self._changed.set()
                if message.HasField("probe") and self.answers_probes:
                    self._sequence += 1
                    await self.send(heartbeat=pb.Heartbeat(sequence=self._sequence, credit=5))
        except grpc.aio.AioRpcError:
            pass
        except asyncio.CancelledError:
            # The call was cancelled by us; this task never is.
            pass
        self.code = await self._call.code()
        self.details = await self._call.details()
        self.trailing = await self._call.trailing_metadata()
        self._changed.set()


def result(assignment: pb.Assignment, **fields: Any) -> pb.Result:
    """A result of this attempt, completed unless told otherwise."""
    usual: dict[str, Any] = {
        "command_id": assignment.command.command_id,
        "lease_id": assignment.lease_id,
        "status": command_pb2.COMMAND_STATUS_COMPLETED,
    }
    return pb.Result(**usual | fields)


def running(assignment: pb.Assignment, output_offset: int = 0) -> pb.RunningCommand:
    """What a Hello says of a command that the agent holds."""
    return pb.RunningCommand(
        command_id=assignment.command.command_id, lease_id=assignment.lease_id, output_offset=output_offset
    )


@asynccontextmanager
async def wire_agent(address: str, agent_id: str = "agent123", **changes: Any) -> AsyncIterator[WireAgent]:
    """Attach, wait for the Welcome; the stream is cut at the end if it is still open."""
    async with opened_stream(address, changes.pop("credentials", ())) as agent:
        await agent.send(hello=hello(agent_id, **changes))
        await agent.until(lambda: agent.messages)
        yield agent


def raw_stream(channel: grpc.aio.Channel) -> grpc.aio.StreamStreamCall[bytes, bytes]:
    """A stream on which messages are written and read as bytes."""
    connect: grpc.aio.StreamStreamMultiCallable[bytes, bytes] = channel.stream_stream(CONNECT)
    return connect()


@asynccontextmanager
async def opened_stream(address: str, credentials: Sequence[tuple[str, str]] = ()) -> AsyncIterator[WireAgent]:
    """A stream on which nothing was said yet."""
    # A connection of its own, as each agent has.
    options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options=options) as channel:
        agent = WireAgent(AgentGatewayServiceStub(channel).Connect(metadata=tuple(credentials)))
        try:
            yield agent
        finally:
            await agent.vanish()
