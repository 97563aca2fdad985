"""A well-behaved agent in a process of its own, so that the work of making faults does not slow what it measures.

Takes the server's address and an agent id; the tokens of the agent and of a caller come from the environment. Prints a
line for each round trip: what it was, when it ended (seconds of the monotonic clock, which all processes share), and
how long it took in seconds.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from typing import Any, Final

import grpc

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.v1.command_service_pb2 import QueueCommandRequest
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.transport import channel_options

PAUSE_SECONDS: Final = 0.02
ROUNDS_PER_COMMAND: Final = 4


class Probe:
    """Sends heartbeats, and now and then a command to itself, one round trip at a time."""

    def __init__(self, channel: grpc.aio.Channel, agent_id: str) -> None:
        self._agent_id = agent_id
        self._metadata = authorization("PROBE_CALLER_TOKEN")
        self._commands: Any = CommandServiceStub(channel)
        self._stream: Any = AgentGatewayServiceStub(channel).Connect(metadata=authorization("PROBE_AGENT_TOKEN"))
        self._sequence = 0

    async def run(self) -> None:
        """Attach and measure until the process is ended."""
        hello = pb.Hello(agent_id=self._agent_id, instance_id="probe", capacity=10, types=["PRINT"])
        await self._stream.write(pb.ConnectRequest(hello=hello))
        await self._next()
        while True:
            self._sequence += 1
            await self._measure("heartbeat", self._heartbeat())
            if self._sequence % ROUNDS_PER_COMMAND == 0:
                await self._measure("command", self._command())
            await asyncio.sleep(PAUSE_SECONDS)

    async def _measure(self, what: str, work: Any) -> None:
        begun = time.monotonic()
        await work
        ended = time.monotonic()
        print(what, ended, ended - begun, flush=True)  # noqa: T201 - read by the campaign

    async def _heartbeat(self) -> None:
        await self._stream.write(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=self._sequence, credit=10)))
        while (await self._next()).heartbeat_reply.sequence < self._sequence:
            pass

    async def _command(self) -> None:
        """From the call that queues a command to the acknowledgement of its result."""
        request = QueueCommandRequest()
        request.command.agent_id, request.command.type = self._agent_id, "PRINT"
        await self._commands.QueueCommand(request, metadata=self._metadata)
        while not (assignments := (await self._next()).commands.assignments):
            pass
        done = pb.ConnectRequest()
        for one in assignments:
            held = {"command_id": one.command.command_id, "lease_id": one.lease_id}
            done.received.add(**held)
            done.started.add(**held)
            done.results.add(**held, status=command_pb2.COMMAND_STATUS_COMPLETED)
        await self._stream.write(done)
        while not (await self._next()).result_acks:
            pass

    async def _next(self) -> pb.ConnectResponse:
        message = await self._stream.read()
        if not isinstance(message, pb.ConnectResponse):
            raise ConnectionError(f"the probe's stream ended: {await self._stream.code()}")
        return message


def authorization(name: str) -> tuple[tuple[str, str], ...]:
    """Return the metadata with the token in an environment variable."""
    return (("authorization", f"Bearer {os.environ[name]}"),)


async def run(address: str, agent_id: str) -> None:
    """Connect and measure."""
    async with grpc.aio.insecure_channel(address, options=channel_options(address)) as channel:
        await Probe(channel, agent_id).run()


if __name__ == "__main__":
    asyncio.run(run(*sys.argv[1:]))
