"""BullMQ, the queue of Node.js, on Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.child import ROOT, Child
from bench.findings import BenchFailed
from bench.peers.installation import REMEDY, Installation
from bench.peers.peer_processes import PeerProcesses, peer_processes
from bench.peers.valkey_broker import ValkeyBroker

PROGRAMS = ROOT / "bench" / "peers" / "bullmq"


class BullMQ:
    """Runs BullMQ on a Valkey of its own."""

    name = "BullMQ"

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def missing(self) -> str:
        """Return what is not installed, "" if it can run."""
        if self._installation.node is None:
            return "Node.js is missing; on Debian: apt-get install nodejs npm"
        return "" if self._installation.node_modules else f"bullmq is not installed: {REMEDY}"

    def description(self) -> str:
        """Return its versions and its durable setting."""
        version = self._installation.npm_version("bullmq")
        return f"BullMQ {version} on Valkey, fsynced every second; results kept in the jobs, seen by QueueEvents"

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[PeerProcesses]:
        """Run a broker, a worker and a caller inside the context. Raises BenchFailed."""
        node = self._installation.node
        if node is None:
            raise BenchFailed(self.missing())
        async with ValkeyBroker(folder / "bullmq") as valkey:
            environment = {**valkey.environment, "NODE_PATH": str(self._installation.node_modules)}
            worker, caller = (
                Child(f"bullmq-{role}", folder, str(PROGRAMS / f"{role}.cjs"), environment=environment, program=node)
                for role in ("worker", "caller")
            )
            async with peer_processes(self.name, valkey.role, worker, caller) as processes:
                yield processes
