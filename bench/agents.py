"""A process of agents that answer at once. They use only the protocol, so that the server dominates the measurement.

Takes an AgentsPlan as JSON. Prints a line once all agents are attached; detaches them on SIGTERM. For each line on
stdin, cuts the connections of all agents, lets them reconnect at once, and prints the number of retries when all are
attached again.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path

import grpc

from bench.event_loop import loop_factory
from distributor.app.signals import StopSignals
from distributor.tasks import first_of, stop_tasks
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.wire.credentials import ClientCredentials, Connector

ATTACHING_AT_ONCE = 50
RETRY_SECONDS = (0.1, 1.0)
"""Range of the random wait before an agent tries again to reconnect."""
CHANNEL_OPTIONS = [("grpc.use_local_subchannel_pool", 1)]
"""Each agent has its own connection, like agents on separate hosts."""

Stream = grpc.aio.StreamStreamCall[pb.ConnectRequest, pb.ConnectResponse]


@dataclass(frozen=True)
class AgentsPlan:
    """The agents of one process and their server."""

    address: str
    prefix: str
    count: int
    capacity: int
    credentials: str = ""
    """Folder with ca.pem, and a certificate and a key for each agent; "" for plain text without authentication."""

    def dump(self) -> str:
        """Encode the plan as JSON."""
        return json.dumps(asdict(self))

    def ids(self) -> list[str]:
        """Return the ids of the agents."""
        return [f"{self.prefix}-{number}" for number in range(self.count)]

    def connector(self, agent_id: str) -> Connector:
        """Return what opens the connection of an agent."""
        if not self.credentials:
            return Connector()
        folder = Path(self.credentials)
        return Connector(ClientCredentials(folder / "ca.pem", folder / f"{agent_id}.pem", folder / f"{agent_id}.key"))


def hello(agent_id: str, instance_id: str, capacity: int) -> pb.ConnectRequest:
    """Build the first message of an agent."""
    return pb.ConnectRequest(
        hello=pb.Hello(agent_id=agent_id, instance_id=instance_id, capacity=capacity, agent_version="bench")
    )


class InstantAgent:
    """An agent that reports each command as received, started and completed at once."""

    def __init__(self, agent_id: str, capacity: int, connector: Connector | None = None) -> None:
        self._agent_id = agent_id
        self._connector = connector or Connector()
        self._instance_id = secrets.token_hex(8)
        self._capacity = capacity
        self._serving: asyncio.Task[None] | None = None
        self._writing = asyncio.Lock()
        self._left = False

    async def attach(self, address: str) -> None:
        """Connect; return after the server's Welcome. Raises ConnectionError or AioRpcError if it refuses."""
        self._channel = self._connector.channel(address, CHANNEL_OPTIONS)
        self._left = False
        self._stream: Stream = AgentGatewayServiceStub(self._channel).Connect()
        await self._stream.write(hello(self._agent_id, self._instance_id, self._capacity))
        message = await self._stream.read()
        if not isinstance(message, pb.ConnectResponse) or not message.HasField("welcome"):
            raise ConnectionError(f"the server did not welcome {self._agent_id}: {await self._stream.details()}")
        self._heartbeat_seconds = message.welcome.heartbeat_interval.ToMilliseconds() / 1000

    def serve(self) -> None:
        """Answer commands, in a task, until the stream ends."""
        self._serving = asyncio.create_task(self._serve())

    async def leave(self) -> None:
        """Send Goodbye, wait for the server to end the stream, and close the connection."""
        async with self._writing:
            self._left = True
            await self._stream.write(pb.ConnectRequest(goodbye=pb.Goodbye(reason="measured")))
            await self._stream.done_writing()
        # Read to the end first: gRPC has no status before the last message is read.
        if self._serving is not None:
            await self._serving
        await self._stream.code()
        await self._channel.close()

    async def reconnect(self, address: str) -> int:
        """Lose the connection without Goodbye, and attach again; return the number of retries that took."""
        if self._serving is not None:
            # Cancelling its read cancels the stream.
            await stop_tasks([self._serving])
        await self._channel.close()
        return await self.attach_when_admitted(address)

    async def attach_when_admitted(self, address: str) -> int:
        """Attach and serve, trying again while the server refuses; return the number of retries."""
        for retries in count():
            try:
                await self.attach(address)
            except (ConnectionError, grpc.aio.AioRpcError):
                await self._channel.close()
                await asyncio.sleep(random.uniform(*RETRY_SECONDS))
            else:
                self.serve()
                return retries
        raise AssertionError("count() does not end")

    async def _serve(self) -> None:
        heartbeats = asyncio.create_task(self._send_heartbeats())
        try:
            while isinstance(message := await self._stream.read(), pb.ConnectResponse):
                if message.HasField("commands"):
                    await self._write(_done(message.commands))
        finally:
            heartbeats.cancel()

    async def _send_heartbeats(self) -> None:
        sequence = 0
        while True:
            await asyncio.sleep(self._heartbeat_seconds)
            sequence += 1
            await self._write(pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=sequence, credit=self._capacity)))

    async def _write(self, message: pb.ConnectRequest) -> None:
        """Write unless the Goodbye is written: nothing may follow it."""
        async with self._writing:
            if not self._left:
                await self._stream.write(message)


def _done(commands: pb.Commands) -> pb.ConnectRequest:
    answer = pb.ConnectRequest()
    for assignment in commands.assignments:
        command_id, lease_id = assignment.command.command_id, assignment.lease_id
        answer.received.add(command_id=command_id, lease_id=lease_id)
        answer.started.add(command_id=command_id, lease_id=lease_id)
        answer.results.add(
            command_id=command_id, lease_id=lease_id, status=command_pb2.COMMAND_STATUS_COMPLETED, exit_code=0
        )
    return answer


async def run(plan: AgentsPlan) -> None:
    """Attach all agents, report that, serve until a signal, detach."""
    agents = [InstantAgent(agent_id, plan.capacity, plan.connector(agent_id)) for agent_id in plan.ids()]
    some = asyncio.Semaphore(ATTACHING_AT_ONCE)

    async def attach(agent: InstantAgent) -> None:
        async with some:
            await agent.attach(plan.address)
        agent.serve()

    with StopSignals() as signals:
        await asyncio.gather(*(attach(agent) for agent in agents))
        print("attached", flush=True)
        await first_of(signals.wait(), _reconnect_on_demand(agents, plan.address))
        await asyncio.gather(*(agent.leave() for agent in agents))


async def _reconnect_on_demand(agents: Sequence[InstantAgent], address: str) -> None:
    lines = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while await lines.readline():
        print(sum(await asyncio.gather(*(agent.reconnect(address) for agent in agents))), flush=True)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run(AgentsPlan(**json.loads(sys.argv[1]))))
