"""Soaks a server in reconnects and commands, and shows what grows and what is lost."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from typing import Any, Final

import grpc

from bench.agents import AgentsPlan
from bench.cluster import ATTACH_TIMEOUT_SECONDS, Cluster
from bench.endings import Endings
from bench.findings import Finding, slope
from bench.load import queue_request
from bench.proc_files import CpuMeter, resident_bytes
from bench.scale import Scale
from distributor.v1.command_service_pb2_grpc import CommandServiceStub

SAMPLE_SECONDS: Final = 1.0
WARM_UP_SHARE: Final = 0.25
SETTLING_SECONDS: Final = 120.0
"""Above the ack deadline and the time until a lost agent's commands end."""
PER_HOUR: Final = 3_600 / 2**20


class Commands:
    """Queues commands at a steady rate for agents in turn, whether they are attached or not."""

    def __init__(self, channel: grpc.aio.Channel, agent_ids: list[str], per_second: float) -> None:
        self._stub = CommandServiceStub(channel)
        self._requests = [queue_request(agent_id) for agent_id in agent_ids]
        self._per_second = per_second
        self.ids: set[str] = set()
        self.latest = 0.0
        """By how many seconds the last was behind its time."""

    async def run(self, seconds: float) -> None:
        """Queue for so long."""
        begun = time.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(seconds * self._per_second)):
                due = begun + number / self._per_second
                await asyncio.sleep(max(0.0, due - time.monotonic()))
                self.latest = time.monotonic() - due
                group.create_task(self._queue(number))

    async def _queue(self, number: int) -> None:
        response = await self._stub.QueueCommand(self._requests[number % len(self._requests)])
        self.ids.add(response.command.command_id)


async def soak(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure memory over time, and count commands that did not end, or ended twice."""
    plans = [
        AgentsPlan(cluster.address, f"soak{number}", scale.soak_agents // scale.soak_processes, capacity=5)
        for number in range(scale.soak_processes)
    ]
    rate = scale.soak_reconnects_per_second / len(plans)
    async with AsyncExitStack() as stack:
        children = [cluster.child(plan.prefix, "-m", "bench.soak_agents", plan.dump(), str(rate)) for plan in plans]
        for child in children:
            await stack.enter_async_context(child)
        for child in children:
            await child.line(ATTACH_TIMEOUT_SECONDS)
        watching, calling = [await stack.enter_async_context(cluster.channel()) for _ in range(2)]
        endings = await stack.enter_async_context(Endings(watching))
        agent_ids = [agent_id for plan in plans for agent_id in plan.ids()]
        commands = Commands(calling, agent_ids, scale.soak_commands_per_second)
        cpu, points = CpuMeter(cluster.pids), _Samples(cluster)
        sampling = asyncio.create_task(points.run())
        await commands.run(scale.soak_seconds)
        sampling.cancel()
        await asyncio.gather(sampling, return_exceptions=True)
        seconds = cpu.seconds()
        lost = await _until_ended(endings, commands.ids)
        reconnects = 0
        for child in children:
            child.terminate()
            reconnects += int(await child.line(ATTACH_TIMEOUT_SECONDS))
    return _findings(scale, points, endings, commands, (len(lost), reconnects, seconds["server"])), points.details()


async def _until_ended(endings: Endings, command_ids: set[str]) -> set[str]:
    """Wait for the last commands, within a bound; return those that have not ended."""
    for _ in range(int(SETTLING_SECONDS / SAMPLE_SECONDS)):
        if not await endings.missing(command_ids):
            break
        await asyncio.sleep(SAMPLE_SECONDS)
    return await endings.missing(command_ids)


class _Samples:
    """Memory over time: (seconds, bytes)."""

    def __init__(self, cluster: Cluster) -> None:
        self._cluster = cluster
        self.server: list[tuple[float, float]] = []
        self.valkey: list[tuple[float, float]] = []

    async def run(self) -> None:
        while True:
            now = time.monotonic()
            self.server.append((now, resident_bytes(self._cluster.pids["server"])))
            self.valkey.append((now, float((await self._cluster.valkey_info("memory"))["used_memory"])))
            await asyncio.sleep(SAMPLE_SECONDS)

    def details(self) -> dict[str, Any]:
        return {"server_bytes": self.server, "valkey_bytes": self.valkey}


def _settled(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    return points[int(len(points) * WARM_UP_SHARE) :]


def _findings(
    scale: Scale, points: _Samples, endings: Endings, commands: Commands, counts: tuple[int, int, float]
) -> list[Finding]:
    lost, reconnects, server_seconds = counts
    statuses = endings.statuses()
    server, valkey = _settled(points.server), _settled(points.valkey)
    return [
        Finding("commands that never ended", lost, "commands", at_most=0),
        Finding("commands that ended twice", endings.contradictions, "commands", at_most=0),
        Finding("commands", len(commands.ids), "commands"),
        *(Finding(f"commands {status}", count, "commands") for status, count in sorted(statuses.items())),
        Finding("reconnects", reconnects / scale.soak_seconds, "per second"),
        Finding("last command behind its time", commands.latest, "s"),
        Finding("server memory, slope", slope(server) * PER_HOUR, "MiB/hour"),
        Finding("server memory at the end", server[-1][1] / 2**20, "MiB"),
        Finding("Valkey memory, slope", slope(valkey) * PER_HOUR, "MiB/hour"),
        Finding("Valkey memory per command", slope(valkey) / scale.soak_commands_per_second, "bytes/command"),
        Finding("server CPU", server_seconds / scale.soak_seconds * 100, "% of a core"),
    ]
