from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.documents import Document
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import Unavailable
from distributor.tasks import stop_tasks
from tests.support.own_logs import own_logs
from tests.support.waiting import until


class View:
    """A StoreView that fails some times, and then knows no agents."""

    def __init__(self, failures: int) -> None:
        self.reads = 0
        self._failures = failures

    async def agents(self, agent_ids: Sequence[str]) -> list[Document]:
        self.reads += 1
        if self.reads <= self._failures:
            raise Unavailable("Valkey is away")
        return []


async def test_a_store_that_is_away_is_told_of_once_and_when_it_is_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("distributor.bridge.agent_watch.SWEEP_SECONDS", 0.001)
    view = View(failures=3)
    watch = AgentWatch(cast(Any, view), Subscriptions())
    with own_logs() as logs:
        running = asyncio.create_task(watch.run())
        await until(lambda: view.reads > 4)
        await stop_tasks([running])
    assert [line["event"] for line in logs] == ["cannot read agents", "can read agents again"]
