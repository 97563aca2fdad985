from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, cast

from distributor.bridge.agent_watch import AgentWatch, AgentWatchTimes
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import Unavailable
from distributor.identity.caller import ANYONE
from distributor.identity.grants import Grant, Grants
from distributor.model.agent import AgentInfo
from distributor.tasks import stop_tasks
from tests.support.own_logs import own_logs
from tests.support.waiting import until


def agent_info(agent_id: str, *, last_seen_ms: int = 0, away_since_ms: int = 0) -> AgentInfo:
    return AgentInfo(agent_id, 1, not away_since_ms, 4, 0, 0, (), {}, "1", 0, last_seen_ms, away_since_ms)


class View:
    """A StoreView that fails some times, and then knows no agents."""

    def __init__(self, failures: int) -> None:
        self.reads = 0
        self._failures = failures

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo]:
        self.reads += 1
        if self.reads <= self._failures:
            raise Unavailable("Valkey is away")
        return []


class Dashboard:
    """Keeps the newest of each thing it is told of, as an outbox does."""

    caller = ANYONE

    def __init__(self) -> None:
        self.told: dict[str, str] = {}

    def send_agent(self, agent_id: str, text: str) -> None:
        self.told[agent_id] = text


class BusyView:
    """A StoreView with many agents, each of which was heard of since the last look."""

    def __init__(self, agent_ids: list[str]) -> None:
        self._agent_ids = agent_ids
        self._looks = 1_761_000_000_000

    async def agent_ids(self) -> list[str]:
        return self._agent_ids

    async def agents(self, agent_ids: Sequence[str]) -> list[AgentInfo]:
        self._looks += 1
        return [agent_info(agent_id, last_seen_ms=self._looks) for agent_id in agent_ids]


async def test_proof_of_life_of_many_agents_comes_in_messages_of_bounded_size() -> None:
    agent_ids = [f"{number:0128}" for number in range(12_000)]
    subscriptions: Subscriptions[Any] = Subscriptions()
    watch = AgentWatch(cast(Any, BusyView(agent_ids)), subscriptions)
    dashboard = Dashboard()
    subscriptions.add_all_agents(dashboard)
    await watch.sweep()
    dashboard.told.clear()
    await watch.sweep()
    assert max(map(len, dashboard.told.values())) < 1_048_576
    assert [agent for text in dashboard.told.values() for agent in json.loads(text)["seen"]] == agent_ids


async def test_a_store_that_is_away_is_told_of_once_and_when_it_is_back() -> None:
    view = View(failures=3)
    watch = AgentWatch(cast(Any, view), Subscriptions(), AgentWatchTimes(sweep=0.001))
    with own_logs() as logs:
        running = asyncio.create_task(watch.run())
        await until(lambda: view.reads > 4)
        await stop_tasks([running])
    assert [line["event"] for line in logs] == ["cannot read agents", "can read agents again"]


async def test_proof_of_life_is_of_agents_that_the_grants_include() -> None:
    subscriptions: Subscriptions[Any] = Subscriptions()
    watch = AgentWatch(cast(Any, BusyView(["blue-1", "red-1"])), subscriptions)
    narrowed = Dashboard()
    narrowed.caller = replace(ANYONE, grants=Grants((Grant(agents=("red-*",)),)))
    subscriptions.add_all_agents(narrowed)
    await watch.sweep()
    assert "blue" not in str(narrowed.told)
    assert narrowed.told
    narrowed.told.clear()
    await watch.sweep()
    assert [list(json.loads(text)["seen"]) for text in narrowed.told.values()] == [["red-1"]]
