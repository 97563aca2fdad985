"""The hub over a stream in memory: what it makes of a stream that was cut while it lagged behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any, cast

import pytest

from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.event_hub import EventHub
from distributor.bridge.outbox import Outbox
from distributor.bridge.subscriptions import Subscriptions
from distributor.bridge.tokens import Identity
from distributor.dispatch.ports import Facts
from tests.support.waiting import until


class Stream:
    """Events of long ago: EventLog and history in one. Each is yielded once the test says so."""

    def __init__(self) -> None:
        self.kept = "0-0"
        self.upcoming: asyncio.Queue[str] = asyncio.Queue()

    async def tail(self, position: str) -> AsyncIterator[Facts]:
        while True:
            yield Facts(await self.upcoming.get(), "replica", [])

    async def last_position(self) -> str:
        return "9000-0"

    async def kept_from(self) -> str:
        return self.kept


@pytest.mark.parametrize(("kept", "missed"), [("0-0", False), ("1000-0", False), ("1001-0", True), ("3000-0", True)])
async def test_a_stream_that_was_cut_while_the_hub_lagged(kept: str, missed: bool) -> None:
    stream = Stream()
    agents = AgentWatch(cast(Any, None), Subscriptions())
    hub = EventHub(cast(Any, stream), cast(Any, stream), cast(Any, None), cast(Any, None), agents, BridgeMetrics())
    hub.position = "1000-0"
    dashboard = Dashboard("d", Identity("alice", frozenset(), 0.0), Outbox())
    hub.dashboards.add(dashboard)
    running = asyncio.create_task(hub.run())
    try:
        await asyncio.sleep(0)
        stream.kept = kept
        stream.upcoming.put_nowait("3000-0")
        stream.upcoming.put_nowait("9000-0")
        await until(lambda: stream.upcoming.empty() and hub.position == "9000-0")
    finally:
        running.cancel()
        await asyncio.wait([running])
    assert dashboard.disturbed.is_set() is missed
    assert dashboard.resync_reason == ("interrupted" if missed else "")
