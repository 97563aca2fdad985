"""Measures how soon a cancel stops a program that prints at full speed: the cancel must overtake its output."""

from __future__ import annotations

import asyncio
import os
import random
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

from bench.child import ROOT, Child
from bench.cluster import Cluster
from bench.findings import BenchFailed, Finding, percentile
from bench.proc_files import CpuMeter
from bench.scale import Scale
from distributor.client import CommandClient, CommandRequest, CommandStatus, OutputChunk

AGENT_ID = "flooded"
FLOOD = ["sh", "-c", "echo $$ >&2; exec yes"]
OTHER_FLOODS = 3
"""Programs that print beside the measured one in the second round, through the same stream."""
FLOWING_BYTES = 1_048_576
"""Output after which a flood is at full speed."""
SPREAD_SECONDS = 0.05
TIMEOUT_SECONDS = 30.0


class Flood(NamedTuple):
    """A running program that prints without end."""

    command_id: str
    pid: int


class Latency(NamedTuple):
    """Milliseconds from the call of CancelCommand to the end of the program, and to the published status."""

    stopped: float
    published: float


async def cancel_flood(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Cancel one flood after the other, alone and beside other floods."""
    async with flood_agent(cluster, OTHER_FLOODS + 1) as agent, CommandClient(cluster.address) as client:
        meter = CpuMeter({**cluster.pids, "agent": agent.pid})
        alone = await _measure(client, scale.cancel_samples)
        async with AsyncExitStack() as others:
            for _ in range(OTHER_FLOODS):
                await others.enter_async_context(flood(client))
            crowded = await _measure(client, scale.cancel_samples)
        by_others = meter.percent_by_others()
    findings = [
        *_findings("", alone, 100.0),
        *_findings(f", beside {OTHER_FLOODS} others", crowded, 100.0),
        Finding("CPU taken by others", by_others, "% of all cores"),
    ]
    return findings, {"samples": scale.cancel_samples, "other_floods": OTHER_FLOODS}


def _findings(name: str, measured: list[Latency], target: float) -> list[Finding]:
    stopped, published = (sorted(values) for values in zip(*measured, strict=True))
    return [
        Finding(f"program stopped{name}: p50", percentile(stopped, 50), "ms"),
        Finding(f"program stopped{name}: p99", percentile(stopped, 99), "ms", at_most=target),
        Finding(f"status published{name}: p50", percentile(published, 50), "ms"),
        Finding(f"status published{name}: p99", percentile(published, 99), "ms"),
    ]


@asynccontextmanager
async def flood_agent(cluster: Cluster, capacity: int) -> AsyncIterator[Child]:
    """The reference agent, allowed to EXEC."""
    agent = cluster.child(
        "agent",
        str(ROOT / "cmd" / "command_agent.py"),
        *("--agent", AGENT_ID, "--server", cluster.address, "--capacity", str(capacity)),
        *("--allow-exec", "--log-format", "json"),
    )
    async with agent:
        await agent.log_line('"event": "connected"')
        yield agent


async def _measure(client: CommandClient, samples: int) -> list[Latency]:
    return [await _cancelled(client) for _ in range(samples)]


async def _cancelled(client: CommandClient) -> Latency:
    """Start a flood, cancel it, and return how long that took."""
    async with flood(client) as flooding:
        ending = asyncio.create_task(client.wait(flooding.command_id))
        await asyncio.sleep(random.uniform(0.0, SPREAD_SECONDS))
        stopped = _ended(flooding.pid)
        began = time.perf_counter()
        await client.cancel(flooding.command_id)
        await asyncio.wait_for(stopped, TIMEOUT_SECONDS)
        stopped_ms = (time.perf_counter() - began) * 1_000
        result = await asyncio.wait_for(ending, TIMEOUT_SECONDS)
        published_ms = (time.perf_counter() - began) * 1_000
        if result.status is not CommandStatus.CANCELLED:
            raise BenchFailed(f"a cancelled flood ended as {result.status.value}: {result.reason.message}")
        return Latency(stopped_ms, published_ms)


@asynccontextmanager
async def flood(client: CommandClient) -> AsyncIterator[Flood]:
    """Start a flood and wait until it flows; cancel it at the end."""
    queued = await client.queue(CommandRequest(AGENT_ID, "EXEC", {"argv": FLOOD}))
    command_id = queued.command.command_id
    try:
        yield Flood(command_id, await asyncio.wait_for(_flowing(client, command_id), TIMEOUT_SECONDS))
    finally:
        await client.cancel(command_id)


async def _flowing(client: CommandClient, command_id: str) -> int:
    """Read output until the flood is at full speed; return the id of its process."""
    pid, seen = b"", 0
    async for update in client.watch(command_id):
        if isinstance(update, OutputChunk):
            seen += len(update.data)
            if update.stream.value == "stderr":
                pid += update.data
            if seen >= FLOWING_BYTES and pid.endswith(b"\n"):
                return int(pid)
    raise BenchFailed("a flood ended by itself")


def _ended(pid: int) -> asyncio.Future[None]:
    """A future that is done when the process ends, also before it is reaped."""
    loop = asyncio.get_running_loop()
    handle, ended = os.pidfd_open(pid), loop.create_future()

    def notice() -> None:
        loop.remove_reader(handle)
        os.close(handle)
        if not ended.done():
            ended.set_result(None)

    loop.add_reader(handle, notice)
    return ended
