"""One server without gRPC and background loops: the real gateway and store, until it is killed."""

from __future__ import annotations

import asyncio

from distributor.dispatch.command_distributor import CommandDistributor
from distributor.dispatch.deadlines import Deadlines
from distributor.dispatch.event_relay import EventRelay
from distributor.dispatch.reconciler import Reconciler
from distributor.dispatch.wakeups import Wakeups
from distributor.dispatch.watches import Watches
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.metrics import Metrics
from distributor.store.connections import StoreConnections
from distributor.store.event_log import ValkeyEventLog
from distributor.store.policy import StorePolicy
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.gateway_world import FOREVER_SECONDS, GatewayWorld, MemoryStream
from tests.support.store_world import REPLICA, StoreWorld

TURNS = 5
"""Turns of the event loop in which a writer takes what there is to send."""
WINDOW_BYTES, SLACK_BYTES = 65_536, 65_536


class CrashingReplica:
    """Its connections to Valkey are its own, so that whatever it still tries after `kill` has no effect."""

    def __init__(self, valkey_url: str, policy: StorePolicy, retry: RetryPolicy) -> None:
        self._connections = StoreConnections.to(valkey_url)
        self.world = StoreWorld(self._connections, policy)
        self.gateway = GatewayWorld(self.world, WINDOW_BYTES, SLACK_BYTES, retry)
        self._streams: list[MemoryStream] = []
        metrics, wakeups, registry = Metrics(), Wakeups(), self.gateway.registry
        relay = EventRelay(
            ValkeyEventLog(self._connections.events), REPLICA, registry, wakeups, Watches(metrics, 1), metrics
        )
        self.world.functions.on_changes = relay.relay_own
        # Receipts are stored when the test says so, or with what follows them.
        self.gateway.reports._receipts._delay_seconds = FOREVER_SECONDS
        self._distributor = CommandDistributor(self.world.store, registry, wakeups, metrics)
        self._deadlines = Deadlines(self.world.store, wakeups, retry)
        self._reconciler = Reconciler(self.world.reader, registry, wakeups, relay.missed)

    async def attach(self, hello: pb.Hello) -> MemoryStream:
        """Open a stream, and return it once it has a Welcome or has ended."""
        stream = MemoryStream(self.gateway.gateway, hello)
        self._streams.append(stream)
        await stream.answered()
        return stream

    async def claim(self, agent_id: str) -> None:
        """Give the agent what it has room for."""
        await self._distributor.run_once([agent_id], {agent_id})

    async def settle(self, agent_id: str) -> None:
        """Store the receipts that wait, and let all tasks go on that can."""
        await self.gateway.settle(agent_id)
        for _ in range(TURNS):
            await asyncio.sleep(0)

    async def act_on_deadlines(self) -> None:
        """Act on the deadlines that have passed."""
        await self._deadlines.run_once()

    async def reconcile(self) -> None:
        """Compare what agents are believed to hold with the store."""
        await self._reconciler.run_once()

    async def lose_valkey(self) -> None:
        """From now on, nothing reaches Valkey."""
        await self._connections.close()

    async def kill(self) -> None:
        """End it as kill -9 does: nothing more reaches Valkey, and all streams break."""
        await self._connections.close()
        for stream in self._streams:
            await stream.abandon()
        await self.gateway.gateway.idle()
