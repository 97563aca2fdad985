"""What takes part in the comparison: this project, or a peer."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Protocol

from bench.peers.work import Times, Work


class Contender(Protocol):
    """A running system that takes turns."""

    @property
    def name(self) -> str:
        """Its name in the report."""

    @property
    def pids(self) -> Mapping[str, int]:
        """Its processes by role: server, valkey, worker, caller; those that it has."""

    async def take_turn(self, work: Work) -> Times:
        """Do the work of one turn. Raises BenchFailed."""


class Peer(Protocol):
    """A peer that may be installed."""

    @property
    def name(self) -> str:
        """Its name in the report."""

    def missing(self) -> str:
        """Return what is not installed, "" if it can run."""

    def description(self) -> str:
        """Return its versions and its durable setting."""

    def running(self, folder: Path) -> AbstractAsyncContextManager[Contender]:
        """Run it inside the context, with its data in `folder`. Raises BenchFailed."""
