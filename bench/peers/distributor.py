"""This project as a contender: the server, Valkey and agents of a cluster."""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

import grpc

from bench.agents import AgentsPlan
from bench.cluster import Cluster
from bench.findings import BenchFailed
from bench.load import CompletionWatch, queue_request
from bench.peers.caller import take_turn
from bench.peers.work import Times, Work
from bench.scale import Scale
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub


@dataclass(frozen=True)
class Distributor:
    """A running cluster, called by this process."""

    pids: dict[str, int]
    agent_ids: list[str]
    calling: grpc.aio.Channel
    watching: grpc.aio.Channel
    name: str = "distributor"

    async def take_turn(self, work: Work) -> Times:
        """Do the work, with a new watch."""
        requests = itertools.cycle([queue_request(agent_id) for agent_id in self.agent_ids])
        batch = pb.QueueCommandsRequest(requests=itertools.islice(requests, work.batch))
        stub = CommandServiceStub(self.calling)

        async def queue(count: int) -> list[str]:
            if count == 1:
                return [(await stub.QueueCommand(next(requests))).command.command_id]
            outcomes = (await stub.QueueCommands(batch)).outcomes
            for outcome in outcomes:
                if not outcome.command_id:
                    raise BenchFailed(f"a command was refused: {outcome.error}")
            return [outcome.command_id for outcome in outcomes]

        async with CompletionWatch(self.watching, self.agent_ids) as endings:
            return await take_turn(work, queue, endings)


@asynccontextmanager
async def distributor(cluster: Cluster, scale: Scale) -> AsyncIterator[Distributor]:
    """Attach agents to the cluster inside the context."""
    async with (
        cluster.agents("agents", scale.agents, scale.capacity) as agents,
        cluster.channel() as watching,
        cluster.channel() as calling,
    ):
        pids = cluster.pids
        roles = {"server": pids["server"], "valkey": pids["valkey"], "worker": agents.pid, "caller": pids["load"]}
        ids = AgentsPlan(cluster.address, "agents", scale.agents, scale.capacity).ids()
        yield Distributor(roles, ids, calling, watching)
