"""Measures delays to many dashboards: of output since the agent's write, of completions since their event."""

from __future__ import annotations

import asyncio
import gc
import json
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from bench.audience import Audience
from bench.clock_agent import AGENT_ID, CLOCK
from bench.cluster import Cluster
from bench.findings import BenchFailed, Finding, percentile
from bench.proc_files import CpuMeter
from bench.scale import Scale
from distributor.client import CommandClient, CommandRequest
from distributor.wire.documents import milliseconds_of

LINE_PAUSE_SECONDS = 0.07
"""Longer than output is ever buffered, so that each line travels alone."""
ENDING_PAUSE_SECONDS = 0.02
TARGET_MS = 50.0

Delays = Mapping[str, list[float]]
"""Milliseconds to each dashboard, by line or command."""


async def dashboards(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure output lines of one command, then completions of many, with increasing numbers of dashboards."""
    findings: list[Finding] = []
    details: dict[str, Any] = {}
    async with (
        cluster.bridge() as bridge,
        cluster.child("clock", "-m", "bench.clock_agent", cluster.address) as agent,
        CommandClient(cluster.address) as client,
    ):
        # Also waits for the agent to attach.
        await client.wait(await _queue(client, lines=1))
        for count in scale.dashboards:
            async with Audience(bridge.address, bridge.token, count) as audience:
                cpu = CpuMeter({**cluster.pids, "bridge": bridge.pid, "agent": agent.pid})
                lines = await _lines(client, audience, count, scale.dashboard_lines)
                endings = await _endings(client, audience, count, scale.dashboard_endings)
            findings += [
                *_findings(f"output to {count}", lines),
                *_findings(f"status to {count}", endings),
                Finding(f"CPU taken by others, {count}", cpu.percent_by_others(), "% of all cores"),
            ]
            details[str(count)] = {"lines": len(lines), "endings": len(endings)}
    return findings, details


async def _lines(client: CommandClient, audience: Audience, count: int, lines: int) -> Delays:
    """Measure the lines written after every dashboard followed the command."""
    command_id = await _queue(client, lines)
    audience.send_all("subscribe", output=[{"commandId": command_id}])
    audience.send_all("ping")
    await audience.wait_for_all("pong")
    followed = time.time_ns()
    await audience.wait_for_all("command:result")
    delays: dict[str, list[float]] = defaultdict(list)
    for came, type_, message in audience.messages:
        if type_ == "terminal:output":
            for written in json.loads(message)["data"].split():
                if int(written) > followed:
                    delays[written].append((came - int(written)) / 1e6)
    return _complete(delays, count)


async def _endings(client: CommandClient, audience: Audience, count: int, endings: int) -> Delays:
    """Measure from the event's time, which the store truncates to milliseconds: up to 1 ms too much."""
    audience.clear()
    # A garbage collection here would count as delay.
    gc.collect()
    gc.freeze()
    for number in range(endings):
        await _queue(client, lines=0)
        await audience.wait_for_all("command:result", number + 1)
        await asyncio.sleep(ENDING_PAUSE_SECONDS)
    delays: dict[str, list[float]] = defaultdict(list)
    for came, type_, message in audience.messages:
        if type_ == "command:status" and (status := json.loads(message))["status"] == "completed":
            finished_ms = milliseconds_of(status["command"]["receipts"]["finishTime"])
            delays[status["commandId"]].append(came / 1e6 - finished_ms)
    if len(delays) != endings:
        raise BenchFailed(f"{len(delays)} of {endings} completions arrived")
    return _complete(delays, count)


def _complete(delays: Delays, count: int) -> Delays:
    if not delays or any(len(each) != count for each in delays.values()):
        raise BenchFailed(f"some messages did not reach each of {count} dashboards exactly once")
    return delays


async def _queue(client: CommandClient, lines: int) -> str:
    request = CommandRequest(AGENT_ID, CLOCK, {"lines": lines, "pause": LINE_PAUSE_SECONDS})
    return (await client.queue(request)).command_id


def _findings(name: str, delays: Delays) -> list[Finding]:
    """Return figures over all dashboards, and over the slowest of each broadcast."""
    every = sorted(delay for each in delays.values() for delay in each)
    slowest = sorted(max(each) for each in delays.values())
    return [
        Finding(f"{name}: p50", percentile(every, 50), "ms"),
        Finding(f"{name}: p99", percentile(every, 99), "ms", at_most=TARGET_MS),
        Finding(f"{name}: slowest dashboard, p50", percentile(slowest, 50), "ms"),
        Finding(f"{name}: slowest dashboard, p99", percentile(slowest, 99), "ms", at_most=TARGET_MS),
    ]
