"""taskiq with the Redis stream broker, which acknowledges, and the Redis result backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.child import Child
from bench.peers.installation import REMEDY, Installation
from bench.peers.peer_processes import PeerProcesses, peer_processes
from bench.peers.valkey_broker import ValkeyBroker


class Taskiq:
    """Runs taskiq on a Valkey of its own."""

    name = "taskiq"

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def missing(self) -> str:
        """Return what is not installed, "" if it can run."""
        return "" if self._installation.python else f"taskiq is not installed: {REMEDY}"

    def description(self) -> str:
        """Return its versions and its durable setting."""
        core, redis = (self._installation.python_version(package) for package in ("taskiq", "taskiq-redis"))
        return (
            f"taskiq {core}, taskiq-redis {redis} on Valkey, fsynced every second; stream broker and result "
            "backend; a command is acknowledged once its result is stored; results are polled"
        )

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[PeerProcesses]:
        """Run a broker, a worker and a caller inside the context. Raises BenchFailed."""
        async with ValkeyBroker(folder / "taskiq") as valkey:
            worker, caller = (
                Child(
                    f"taskiq-{role}",
                    folder,
                    *("-m", f"bench.peers.taskiq.{role}"),
                    environment=valkey.environment,
                    program=str(self._installation.python),
                )
                for role in ("worker", "caller")
            )
            async with peer_processes(self.name, valkey.role, worker, caller) as processes:
                yield processes
