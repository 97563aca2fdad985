"""Compares this project with its peers, in turns, on the same work."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from bench.cluster import Cluster
from bench.findings import Finding
from bench.peers.bullmq.peer import BullMQ
from bench.peers.comparison import Comparison
from bench.peers.contender import Contender, Peer
from bench.peers.distributor import distributor
from bench.peers.installation import Installation
from bench.peers.jetstream.peer import JetStream
from bench.peers.table import lines, peer_lines
from bench.peers.taskiq.peer import Taskiq
from bench.peers.turns import take_turns
from bench.peers.work import Shape, Work
from bench.scale import Scale

PAUSE_SECONDS = 0.005


async def peers(cluster: Cluster, scale: Scale) -> tuple[list[Finding], dict[str, Any]]:
    """Measure batches, 50 calls at a time and one at a time; leave out peers that are not installed."""
    installation = Installation()
    return await compare(cluster, scale, (JetStream(installation), BullMQ(installation), Taskiq(installation)))


async def compare(cluster: Cluster, scale: Scale, candidates: Sequence[Peer]) -> tuple[list[Finding], dict[str, Any]]:
    """Run all installed candidates beside the cluster, and let them take turns. Raises BenchFailed."""
    left_out = {peer.name: missing for peer in candidates if (missing := peer.missing())}
    settings = {peer.name: peer.description() for peer in candidates if peer.name not in left_out}
    async with AsyncExitStack() as running:
        folder = Path(running.enter_context(tempfile.TemporaryDirectory(prefix="peers-", ignore_cleanup_errors=True)))
        own = await running.enter_async_context(distributor(cluster, scale))
        contenders: list[Contender] = [own]
        for peer in candidates:
            if peer.name not in left_out:
                contenders.append(await running.enter_async_context(peer.running(folder)))
        turns = await take_turns(contenders, work(scale), scale.rounds)
    comparison = Comparison(turns, own.name, [contender.name for contender in contenders[1:]])
    details = {
        "notes": [*lines(comparison), *peer_lines(settings, left_out)],
        "peers": settings,
        "left_out": left_out,
        "work": [asdict(one) for one in work(scale)],
        "turns": [asdict(turn) for turn in turns],
    }
    return comparison.findings(), details


def work(scale: Scale) -> list[Work]:
    """Return the work of one turn in each shape."""
    return [
        Work(Shape.BATCHED, scale.peer_batched_commands, scale.batch, scale.batch_calls, scale.outstanding),
        Work(Shape.SINGLY, scale.peer_single_commands, 1, scale.single_calls, scale.outstanding),
        Work(Shape.IDLE, scale.peer_latency_samples, pause_seconds=PAUSE_SECONDS),
    ]
