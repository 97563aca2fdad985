"""The worker and the caller of a running peer."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass

from bench.child import Child
from bench.findings import BenchFailed
from bench.peers.work import Times, Work
from distributor.tasks import first_of

TURN_TIMEOUT_SECONDS = 240.0


@dataclass(frozen=True)
class PeerProcesses:
    """A peer whose broker, worker and caller run. The caller reads its turns from stdin."""

    name: str
    broker: Mapping[str, int]
    worker: Child
    caller: Child

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by role."""
        return {**self.broker, "worker": self.worker.pid, "caller": self.caller.pid}

    async def take_turn(self, work: Work) -> Times:
        """Let the caller do the work. Raises BenchFailed if it does not, or if the worker ends."""
        await self.caller.write_line(work.dump())
        lines: list[str] = []

        async def answer() -> None:
            lines.append(await self.caller.line(TURN_TIMEOUT_SECONDS))

        await first_of(answer(), self.worker.fail_at_end())
        try:
            return Times.load(lines[0])
        except (json.JSONDecodeError, TypeError):
            raise BenchFailed(f"the caller of {self.name} printed {lines[0]!r}") from None


@asynccontextmanager
async def peer_processes(
    name: str, broker: Mapping[str, int], worker: Child, caller: Child
) -> AsyncIterator[PeerProcesses]:
    """Run worker and caller inside the context, after both have printed "ready". Raises BenchFailed."""
    async with worker:
        await worker.line()
        async with caller:
            await caller.line()
            yield PeerProcesses(name, broker, worker, caller)
