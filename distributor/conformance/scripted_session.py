"""One attached stream of an agent, played by a script."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final

import grpc
from google.protobuf.message import DecodeError
from grpc import aio

from distributor.conformance.message_text import texts
from distributor.conformance.messages import welcome
from distributor.conformance.unmet import FAULT_OF_THE_KIT, Unmet
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.compression import CorruptGzip, GzipTooLarge, decompressed
from distributor.wire.limits import MAX_OUTPUT_OFFSET
from distributor.wire.transport import MAX_MESSAGE_BYTES

PATIENCE_SECONDS: Final = 30.0
"""Limit of a wait for the agent, unless the gateway sets another."""

STREAM_ENDED: Final = (aio.BaseError, asyncio.InvalidStateError)
"""What gRPC raises for a stream that either side has ended."""

Seen = list[gateway.ConnectRequest]


@dataclass
class ScriptedSession:
    """One attached stream. `send()` goes to the agent; `next()` and `until()` read what it said."""

    opening: gateway.ConnectRequest
    """The first message, which should be a Hello."""
    context: Any
    received: asyncio.Queue[gateway.ConnectRequest | None] = field(default_factory=asyncio.Queue)
    seen: Seen = field(default_factory=list)
    """Every message after the Hello, decompressed."""
    as_sent: Seen = field(default_factory=list)
    """The same messages as they were on the wire."""
    times: list[float] = field(default_factory=list)
    """When each came, in seconds of the event loop's clock."""
    ack_results: bool = True
    ack_output: bool = True
    answer_heartbeats: bool = True
    half_closed: bool = False
    """Whether the agent ended its side in order, instead of dropping the stream."""
    ended: bool = False
    """Whether the agent's side has ended."""
    fault: str = ""
    """Why the stream was dropped, if a message could not be read."""
    answered_heartbeat: int = 0
    """The latest heartbeat that was answered."""
    safe: dict[str, int] = field(default_factory=dict)
    """Offset up to which output was acknowledged, by lease."""
    patience: float = PATIENCE_SECONDS
    _over: asyncio.Event = field(default_factory=asyncio.Event)
    _writing: asyncio.Lock = field(default_factory=asyncio.Lock)
    _abort: tuple[grpc.StatusCode, str, tuple[tuple[str, bytes], ...]] | None = None

    @property
    def hello(self) -> gateway.Hello:
        """How the agent introduced itself; empty if it did not."""
        return self.opening.hello

    # Sending

    async def send(self, message: gateway.ConnectResponse) -> None:
        """Send one message. Has no effect on a stream that the agent has ended, as the next wait reports."""
        with suppress(*STREAM_ENDED):
            await self._write(message)

    async def _write(self, message: gateway.ConnectResponse) -> None:
        # The script and the automatic answers may write at once, which gRPC does not allow.
        async with self._writing:
            await self.context.write(message)

    async def welcome(self, **changes: Any) -> None:
        """Send a Welcome; `changes` are arguments of `messages.welcome`."""
        await self.send(welcome(**changes))

    async def command(self, *assignments: gateway.Assignment, after_heartbeat: int = 0) -> None:
        """Send commands in one message."""
        commands = gateway.Commands(assignments=assignments, after_heartbeat=after_heartbeat)
        await self.send(gateway.ConnectResponse(commands=commands))

    async def cancel(self, command_id: str, lease_id: str = "") -> None:
        """Ask for the end of a command."""
        await self.send(gateway.ConnectResponse(cancels=[gateway.Cancel(command_id=command_id, lease_id=lease_id)]))

    def drop(
        self,
        code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE,
        details: str = "scripted",
        trailing: tuple[tuple[str, bytes], ...] = (),
    ) -> None:
        """End the stream from this side with a status."""
        self._abort = code, details, trailing
        self._over.set()

    # Reading

    async def next(self) -> gateway.ConnectRequest | None:
        """The agent's next message, None at the end of the stream."""
        async with asyncio.timeout(self.patience):
            return await self.received.get()

    async def until(self, wanted: Callable[[Seen], object], expected: str = "") -> None:
        """Wait until everything seen so far satisfies `wanted`. Raises Unmet if the stream ends first or none comes."""
        deadline = asyncio.get_running_loop().time() + self.patience
        while not wanted(self.seen):
            try:
                async with asyncio.timeout_at(deadline):
                    message = await self.received.get()
            except TimeoutError as error:
                raise Unmet(f"{texts(self.seen)}; then nothing for {self.patience:g} s", expected) from error
            if message is None:
                # So that a later wait does not wait in vain.
                self.received.put_nowait(None)
                if wanted(self.seen):
                    return
                raise Unmet(f"{texts(self.seen)}; then {self.fault or 'the end of the stream'}", expected)

    async def result(self, command_id: str) -> gateway.Result:
        """The command's first result, waited for."""
        await self.until(lambda _: self.results(command_id), "a Result")
        return self.results(command_id)[0]

    async def started(self, command_id: str) -> None:
        """Wait until the agent has started the command."""
        await self.until(lambda seen: any(s.command_id == command_id for m in seen for s in m.started), "Started")

    async def refused(self, command_id: str) -> gateway.Refused:
        """The command's refusal, waited for."""
        await self.until(lambda _: self.refusals(command_id), "Refused")
        return self.refusals(command_id)[0]

    def results(self, command_id: str) -> list[gateway.Result]:
        """The results of a command so far."""
        return [part for message in self.seen for part in message.results if part.command_id == command_id]

    def refusals(self, command_id: str) -> list[gateway.Refused]:
        """The refusals of a command so far."""
        return [part for message in self.seen for part in message.refused if part.command_id == command_id]

    def output(self, command_id: str, stream: int = 0) -> bytes:
        """The data of all output of a command so far, in order; one stream of it or both (0)."""
        parts = [part for message in self.seen for part in message.output if part.command_id == command_id]
        return b"".join(part.data for part in parts if stream in (0, part.stream))

    def said_goodbye(self) -> bool:
        """Whether the agent has said Goodbye."""
        return any(message.HasField("goodbye") for message in self.seen)

    # Driven by the gateway

    async def run(self) -> None:
        """Read until the agent ends the stream or the script drops it."""
        reading = asyncio.create_task(self._read())
        over = asyncio.create_task(self._over.wait())
        try:
            await asyncio.wait({reading, over}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            over.cancel()
        if self._abort:
            # The pending read is not cancelled: that would break the stream before the status is sent.
            async with self._writing:
                await self.context.abort(*self._abort)

    async def _read(self) -> None:
        try:
            # The stream ends by an error if it is dropped by either side.
            with suppress(*STREAM_ENDED):
                await self._hear()
        except (CorruptGzip, GzipTooLarge, DecodeError) as error:
            self.fault = f"an unreadable `gzip` ({error})"
            self.drop(grpc.StatusCode.INVALID_ARGUMENT, self.fault)
        except Exception as error:  # noqa: BLE001 - the wait for the agent reports it
            self.fault = f"{FAULT_OF_THE_KIT} ({error!r})"
            self.drop(grpc.StatusCode.INTERNAL, self.fault)
        finally:
            self.ended = True
            self.received.put_nowait(None)

    async def _hear(self) -> None:
        while (message := await self.context.read()) is not aio.EOF:
            plain = message
            if message.gzip:
                plain = gateway.ConnectRequest.FromString(decompressed(message.gzip, MAX_MESSAGE_BYTES))
            self.as_sent.append(message)
            self.seen.append(plain)
            self.times.append(asyncio.get_running_loop().time())
            await self._answer(plain)
            self.received.put_nowait(plain)
        # A half-closed stream still takes messages; a dropped one does not.
        await self._write(gateway.ConnectResponse())
        self.half_closed = True

    async def _answer(self, message: gateway.ConnectRequest) -> None:
        answer = gateway.ConnectResponse()
        if self.answer_heartbeats and message.HasField("heartbeat"):
            answer.heartbeat_reply.sequence = message.heartbeat.sequence
        if self.ack_output:
            for output in message.output:
                end = output.offset + len(output.data)
                if not 0 <= output.offset <= end <= MAX_OUTPUT_OFFSET:
                    # The check of the messages names it.
                    continue
                self.safe[output.lease_id] = end
                answer.output_acks.add(command_id=output.command_id, lease_id=output.lease_id, offset=end)
        if self.ack_results:
            for result in message.results:
                answer.result_acks.add(
                    command_id=result.command_id, lease_id=result.lease_id, verdict=gateway.RESULT_VERDICT_STORED
                )
        if answer.ListFields():
            await self.send(answer)
            self.answered_heartbeat = answer.heartbeat_reply.sequence or self.answered_heartbeat
