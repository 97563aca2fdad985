"""NATS JetStream: streams in files, for commands and for results."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.child import Child
from bench.findings import BenchFailed
from bench.peers.installation import REMEDY, Installation
from bench.peers.peer_processes import PeerProcesses, peer_processes

_CONFIG = """\
host: 127.0.0.1
port: -1
jetstream {{ store_dir: "{folder}" }}
"""
_LISTENING = "Listening for client connections on "


class JetStream:
    """Runs nats-server with its default durability: each message is written before it is acknowledged.

    That default syncs its files every two minutes, where Valkey's are synced every second.
    """

    name = "JetStream"

    def __init__(self, installation: Installation) -> None:
        self._installation = installation

    def missing(self) -> str:
        """Return what is not installed, "" if it can run."""
        if self._installation.nats_server is None:
            return f"nats-server is not installed: {REMEDY}"
        return "" if self._installation.python else f"nats-py is not installed: {REMEDY}"

    def description(self) -> str:
        """Return its versions and its durable setting."""
        server, client = self._installation.nats_server_version(), self._installation.python_version("nats-py")
        return (
            f"nats-server {server}, nats-py {client}; two file streams, for commands and results, each message written "
            "before its ack, files synced every 2 min (its default); a command is acknowledged with its result stored"
        )

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[PeerProcesses]:
        """Run a broker, a worker and a caller inside the context. Raises BenchFailed."""
        config = folder / "nats.conf"
        config.write_text(_CONFIG.format(folder=folder / "jetstream"), encoding="utf-8")
        program = self._installation.nats_server
        if program is None:
            raise BenchFailed(self.missing())
        async with Child("nats-server", folder, "-c", str(config), program=program) as broker:
            line = await broker.log_line(_LISTENING)
            url = f"nats://{line.partition(_LISTENING)[2]}"
            async with peer_processes(
                self.name,
                {"server": broker.pid},
                self._child("worker", folder, url),
                self._child("caller", folder, url),
            ) as processes:
                yield processes

    def _child(self, role: str, folder: Path, url: str) -> Child:
        module = f"bench.peers.jetstream.{role}"
        return Child(f"jetstream-{role}", folder, "-m", module, url, program=str(self._installation.python))
