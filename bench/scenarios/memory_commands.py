"""Measures how the server's memory grows with commands, and Valkey's memory per command."""

from __future__ import annotations

from typing import Any

from bench.agents import AgentsPlan
from bench.bulk_fill import BATCH, fill
from bench.cluster import Cluster
from bench.command_keys import command_keys
from bench.findings import Finding, slope
from bench.load import Callers, CompletionWatch
from bench.proc_files import resident_bytes
from bench.scale import Scale
from distributor.store import keys as store_keys

FLAT_BYTES_PER_COMMAND = 16.0
"""Less than any Python object, so no command is retained; the rest is allocator noise."""
VALKEY_BYTES_PER_COMMAND = 1_536
"""For a finished command with small params, result and indexes included. The event stream has a bound of its own."""
LINE = b"one line of output, as most programs print\n"
VALKEY_BYTES_WITH_LINE = 2_500
WARM_UP_SHARE = 5


async def memory_commands(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure the slope of resident memory over many commands."""
    server, commands = cluster.pids["server"], scale.memory_commands
    agent_ids = AgentsPlan(cluster.address, "agents", scale.agents, scale.capacity).ids()
    async with (
        cluster.agents("agents", scale.agents, scale.capacity),
        cluster.channel() as watching,
        cluster.channel() as calling,
        CompletionWatch(watching, agent_ids) as endings,
    ):
        callers = Callers(calling, endings, agent_ids, calls=scale.batch_calls, outstanding=scale.outstanding)
        await callers.queue_batches(scale.batch, scale.batch)
        keys = await command_keys(cluster, next(iter(endings.seen)))
        await callers.queue_batches(commands // WARM_UP_SHARE, scale.batch)
        before, events_before = await _valkey_bytes(cluster)
        step = commands // scale.memory_samples
        points: list[tuple[float, float]] = []
        for done in range(step, commands + 1, step):
            await callers.queue_batches(step, scale.batch)
            points.append((done, resident_bytes(server)))
        after, events_after = await _valkey_bytes(cluster)
        in_valkey = (after - events_after) - (before - events_before)
    with_line = await _with_one_line(cluster, commands // WARM_UP_SHARE)
    findings = [
        Finding("server memory, slope", slope(points), "bytes/command", at_most=FLAT_BYTES_PER_COMMAND),
        Finding("server memory, second half", slope(points[len(points) // 2 :]), "bytes/command"),
        Finding("server memory at the end", points[-1][1] / 2**20, "MiB"),
        Finding("Valkey memory", in_valkey / commands, "bytes/command", at_most=VALKEY_BYTES_PER_COMMAND),
        Finding("Valkey memory, own keys of a command", sum(keys.values()), "bytes"),
        Finding("Valkey memory with a line of output", with_line, "bytes/command", at_most=VALKEY_BYTES_WITH_LINE),
        Finding("Valkey memory, event stream (bounded by events_kept)", events_after / 2**20, "MiB"),
    ]
    return findings, {"commands": commands, "server_bytes": points, "bytes_of_own_keys": keys}


async def _with_one_line(cluster: Cluster, commands: int) -> float:
    """Bytes that Valkey uses for each finished command that printed one line, without the event stream."""
    await fill(cluster.valkey_url, ["printer"], BATCH, LINE)
    before, events_before = await _valkey_bytes(cluster)
    await fill(cluster.valkey_url, ["printer"], commands, LINE)
    after, events_after = await _valkey_bytes(cluster)
    return ((after - events_after) - (before - events_before)) / commands


async def _valkey_bytes(cluster: Cluster) -> tuple[int, int]:
    """Bytes that Valkey uses, and those of its event stream."""
    used = int((await cluster.valkey_info("memory"))["used_memory"])
    return used, await cluster.valkey.call("MEMORY", "USAGE", store_keys.in_shard(store_keys.EVENTS), "SAMPLES", 0)
