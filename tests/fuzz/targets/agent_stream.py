"""The agent stream: hostile first messages, and hostile reports of agents that were welcomed and given commands."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from random import Random
from typing import Any, Final

import grpc

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.wire.transport import channel_options
from tests.fuzz.generators.call_metadata import Entry, odd_metadata
from tests.fuzz.generators.vocabulary import FUZZED_AGENTS, TYPES, Vocabulary
from tests.fuzz.generators.wire_messages import WireMessages
from tests.fuzz.target import REPLY_SECONDS, Fault
from tests.support.odd_messages import variants
from tests.support.wire_agent import CONNECT

MOST_MESSAGES: Final = 12
LISTEN_SECONDS: Final = 0.05
FAULTS: Final = frozenset({"UNKNOWN", "INTERNAL", "UNIMPLEMENTED", "DATA_LOSS"})
RACED: Final = "Internal error from Core"
"""What this side's gRPC shows for a write that raced with the final status (grpc#43486)."""


class AgentStreams:
    """Streams on connections of their own, as those of agents are."""

    name = "agent stream"
    workers = 2

    def __init__(self, address: str, vocabulary: Vocabulary, token_of: Callable[[str], str]) -> None:
        """`token_of` mints the token of an agent."""
        self._address = address
        self._messages = WireMessages(vocabulary)
        self._tokens = {agent_id: token_of(agent_id) for agent_id in FUZZED_AGENTS}

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Open a stream, send some messages, and end it in one of three ways. Raises Fault."""
        options = [*channel_options(self._address), ("grpc.use_local_subchannel_pool", 1)]
        async with grpc.aio.insecure_channel(self._address, options=options) as channel:
            agent_id = rng.choice(FUZZED_AGENTS)
            call: Any = channel.stream_stream(CONNECT)(metadata=self._credentials(rng, agent_id, sound))
            sent: list[bytes] = []
            with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                await self._converse(rng, call, sent, _hello(rng, agent_id), sound)
            await _end(rng, call, sound)
            code = await asyncio.wait_for(call.code(), REPLY_SECONDS)
            details = await call.details()
            if code.name in FAULTS and details != RACED:
                raise Fault(f"Connect: {code.name}: {details}", sent)

    def _credentials(self, rng: Random, agent_id: str, sound: bool) -> tuple[Entry, ...]:
        """Mostly those of the agent, which get its messages past the door."""
        if not sound and rng.random() < 0.1:
            return odd_metadata(rng)
        holder = rng.choice(FUZZED_AGENTS) if not sound and rng.random() < 0.1 else agent_id
        return (("authorization", f"Bearer {self._tokens[holder]}"),)

    async def _converse(self, rng: Random, call: Any, sent: list[bytes], hello: pb.ConnectRequest, sound: bool) -> None:
        async def send(frame: bytes) -> None:
            sent.append(frame)
            await call.write(frame)

        if not sound and rng.random() < 0.3:
            await send(self._messages.frame(rng, pb.ConnectRequest))
        else:
            await send(hello.SerializeToString())
        heard = pb.ConnectResponse.FromString(await _heard(call))
        for _ in range(rng.randint(1, MOST_MESSAGES)):
            await send(_report(heard) if sound else self._frame(rng, heard))
        if not sound:
            await asyncio.sleep(LISTEN_SECONDS)

    def _frame(self, rng: Random, heard: pb.ConnectResponse) -> bytes:
        if heard.commands.assignments and rng.random() < 0.5:
            odd = rng.choice(list(variants(pb.ConnectRequest.FromString(_report(heard)))))
            return bytes(odd.SerializeToString())
        return self._messages.frame(rng, pb.ConnectRequest)


def _hello(rng: Random, agent_id: str) -> pb.ConnectRequest:
    instance = f"{agent_id}-{rng.randrange(3)}"
    return pb.ConnectRequest(
        hello=pb.Hello(agent_id=agent_id, instance_id=instance, capacity=rng.choice((0, 1, 20)), types=TYPES)
    )


def _report(heard: pb.ConnectResponse) -> bytes:
    """Return the message of an agent that has done all that it was given."""
    message = pb.ConnectRequest()
    for one in heard.commands.assignments:
        held = {"command_id": one.command.command_id, "lease_id": one.lease_id}
        message.received.add(**held)
        message.started.add(**held)
        message.output.add(**held, stream=command_pb2.OUTPUT_STREAM_STDOUT, data=b"x")
        message.results.add(**held, status=command_pb2.COMMAND_STATUS_COMPLETED, output_bytes=1)
    return message.SerializeToString()


async def _heard(call: Any) -> bytes:
    """Return the next message, empty if the stream has ended."""
    message = await asyncio.wait_for(call.read(), REPLY_SECONDS)
    return b"" if message is grpc.aio.EOF else bytes(message)


async def _end(rng: Random, call: Any, sound: bool) -> None:
    way = 0 if sound else rng.randrange(3)
    if way == 0:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.write(pb.ConnectRequest(goodbye=pb.Goodbye(reason="fuzz")).SerializeToString())
    if way <= 1:
        with suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
            await call.done_writing()
            while await call.read() is not grpc.aio.EOF:
                pass
    call.cancel()
