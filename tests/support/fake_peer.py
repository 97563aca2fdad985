"""A peer without a broker: its caller is a real process that sees each result at once."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from bench.child import Child
from bench.peers.peer_processes import PeerProcesses, peer_processes

WORKER = """
import signal
print("ready", flush=True)
signal.pause()
"""

CALLER = """
import asyncio
import itertools
from bench.peers.caller import serve_turns
from bench.peers.results import Results

results, numbers = Results(), itertools.count()

async def queue(count):
    ids = [str(next(numbers)) for _ in range(count)]
    for command_id in ids:
        results.add(command_id)
    return ids

asyncio.run(serve_turns(queue, results))
"""


class FakePeer:
    """Runs a worker that does nothing and a caller; `missing` is the reason to leave it out."""

    def __init__(self, name: str = "fake", missing: str = "", worker: str = WORKER, caller: str = CALLER) -> None:
        self.name = name
        self._missing = missing
        self._worker = worker
        self._caller = caller

    def missing(self) -> str:
        """The reason given to the constructor."""
        return self._missing

    def description(self) -> str:
        """A setting to look for in the report."""
        return "keeps nothing"

    @asynccontextmanager
    async def running(self, folder: Path) -> AsyncIterator[PeerProcesses]:
        """Run both processes, without a broker."""
        worker = Child(f"{self.name}-worker", folder, "-c", self._worker)
        caller = Child(f"{self.name}-caller", folder, "-c", self._caller)
        async with peer_processes(self.name, {}, worker, caller) as processes:
            yield processes
