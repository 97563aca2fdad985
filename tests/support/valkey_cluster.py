"""A Valkey Cluster on loopback: three primaries with a replica each, which tests kill and whose slots they move."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from valkey.asyncio import Valkey
from valkey.exceptions import ValkeyError

from tests.support.external_valkey import ExternalValkey
from tests.support.free_port import free_port
from tests.support.waiting import eventually

PRIMARIES: Final = 3
SLOTS: Final = 16_384
PATIENT_MS: Final = 30_000
"""How long a node may be silent until the others take it for dead: not only because the machine is busy."""


class ClusterNode(ExternalValkey):
    """One node, known by its port."""

    def __init__(self, folder: Path, port: int, bus_port: int, **settings: str | int) -> None:
        super().__init__(
            folder,
            port=port,
            cluster_port=bus_port,
            bind="127.0.0.1",
            cluster_enabled="yes",
            cluster_replica_validity_factor=0,
            repl_diskless_sync_delay=0,
            **settings,
        )
        self.port = port
        self.bus_port = bus_port

    async def call(self, *arguments: str | int) -> Any:
        """Send it a command."""
        async with Valkey.from_url(self.url, decode_responses=True) as client:
            return await client.execute_command(*arguments)

    async def cluster_info(self) -> dict[str, str]:
        """What it says about the cluster."""
        lines = str(await self.call("CLUSTER", "INFO")).split()
        return dict(line.split(":", 1) for line in lines)

    async def id(self) -> str:
        """Its id in the cluster."""
        return str(await self.call("CLUSTER", "MYID"))

    async def is_primary(self) -> bool:
        """Whether it is a primary, as far as it knows."""
        return await self.role() == "master"


class ValkeyCluster:
    """Six nodes in `folder`. The first three begin as primaries, each with a third of the slots."""

    def __init__(self, folder: Path, node_timeout_ms: int = PATIENT_MS) -> None:
        """A node that is silent for `node_timeout_ms` is replaced by its replica."""
        self._folder = folder
        self._node_timeout_ms = node_timeout_ms
        self._ports = AsyncExitStack()
        self.nodes: Sequence[ClusterNode] = ()

    @property
    def url(self) -> str:
        """What to put into valkey_url."""
        return f"valkey+cluster://{','.join(f'127.0.0.1:{node.port}' for node in self.nodes)}"

    @property
    def primaries(self) -> Sequence[ClusterNode]:
        """The nodes that began as primaries."""
        return self.nodes[:PRIMARIES]

    @property
    def replicas(self) -> Sequence[ClusterNode]:
        """The nodes that began as replicas, in the order of their primaries."""
        return self.nodes[PRIMARIES:]

    async def __aenter__(self) -> Self:
        ports = [self._ports.enter_context(free_port()) for _ in range(4 * PRIMARIES)]
        self.nodes = [
            ClusterNode(
                self._folder / f"node-{number}",
                ports[number],
                ports[2 * PRIMARIES + number],
                cluster_node_timeout=self._node_timeout_ms,
            )
            for number in range(2 * PRIMARIES)
        ]
        await asyncio.gather(*(node.start() for node in self.nodes))
        await self._join()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await asyncio.gather(*(node.kill() for node in self.nodes))
        await self._ports.aclose()

    async def owner(self, slot: int) -> ClusterNode:
        """The node that serves a slot, as far as it knows itself."""
        for node in self.nodes:
            try:
                if await node.is_primary() and slot in await _own_slots(node):
                    return node
            except (ValkeyError, OSError):
                continue
        raise AssertionError(f"no node serves slot {slot}")

    async def settle(self) -> None:
        """Return once all nodes that run agree that every slot is served."""
        await eventually(self._settled)

    async def flush(self) -> None:
        """Delete everything."""
        for node in self.nodes:
            if await node.is_primary():
                await node.call("FLUSHALL")

    async def _join(self) -> None:
        first = self.nodes[0]
        for number, node in enumerate(self.primaries):
            await node.call("CLUSTER", "SET-CONFIG-EPOCH", number + 1)
            begin, end = number * SLOTS // PRIMARIES, (number + 1) * SLOTS // PRIMARIES - 1
            await node.call("CLUSTER", "ADDSLOTSRANGE", begin, end)
        for node in self.nodes[1:]:
            await node.call("CLUSTER", "MEET", "127.0.0.1", first.port, first.bus_port)
        await eventually(self._all_met)
        for primary, replica in zip(self.primaries, self.replicas, strict=True):
            await replica.call("CLUSTER", "REPLICATE", await primary.id())
        await eventually(self._replicating)
        await self.settle()

    async def _all_met(self) -> bool:
        known = [await node.cluster_info() for node in self.nodes]
        return all(info["cluster_known_nodes"] == str(len(self.nodes)) for info in known)

    async def _replicating(self) -> bool:
        links = [(await replica.info("replication")).get("master_link_status") for replica in self.replicas]
        return links == ["up"] * PRIMARIES

    async def _settled(self) -> bool:
        for node in self.nodes:
            try:
                info = await node.cluster_info()
            except (ValkeyError, OSError):
                continue
            if info["cluster_state"] != "ok" or info["cluster_slots_ok"] != str(SLOTS):
                return False
        return True


async def _own_slots(node: ClusterNode) -> set[int]:
    """The slots that a node says it serves."""
    own = await node.id()
    found = await node.call("CLUSTER", "NODES")
    slots: set[int] = set()
    for line in str(found).splitlines():
        words = line.split()
        if words[0] == own:
            for word in words[8:]:
                begin, _, end = word.partition("-")
                if begin.isdigit():
                    slots.update(range(int(begin), int(end or begin) + 1))
    return slots
