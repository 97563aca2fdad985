"""Runs `distributor` with a durability that it does not offer, to measure what it would cost.

Arguments: `unproven`, to acknowledge whatever Valkey has answered, or `waitaof`, to wait for WAITAOF by group commit,
then the arguments of `distributor`. Neither is safe with appendfsync everysec: see docs/decisions/.
"""

from __future__ import annotations

import asyncio
import runpy
import sys
from typing import Any

from distributor.app import server_process
from distributor.store.connections import StoreConnections
from distributor.store.durability import TIMEOUT_SECONDS, Durability
from distributor.store.group_commit import GroupCommit, not_durable


class WaitAof(Durability):
    """One WAITAOF for all exchanges that were answered before it, on a connection of its own."""

    def __init__(self, connections: StoreConnections) -> None:
        self._connection = connections.replicas
        self._group = GroupCommit(self._wait, TIMEOUT_SECONDS)

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        return self._group.covered(0)

    async def _wait(self, marks: frozenset[int]) -> None:
        # WAITAOF waits for what its own connection has written.
        wait = ("WAITAOF", 1, 0, round(TIMEOUT_SECONDS * 1000))
        _, reply = await self._connection.exchange([("SET", "bench:waitaof", 1), wait])
        if not isinstance(reply, list) or not reply[0]:
            raise not_durable(f"WAITAOF answered {reply}")


def main() -> None:
    """Run the server."""
    kind, *sys.argv[1:] = sys.argv[1:]

    async def durability_of(connections: StoreConnections, *_: object) -> Durability:
        return WaitAof(connections) if kind == "waitaof" else Durability()

    vars(server_process)["durability_of"] = durability_of
    runpy.run_module("distributor.cli.distributor", run_name="measured")["main"]()


if __name__ == "__main__":
    main()
