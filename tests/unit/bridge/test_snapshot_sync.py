"""How a returning dashboard is told, over a hub in memory: what comes meanwhile is neither lost nor repeated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, cast

import pytest

from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.dashboard import Change, Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.requests import Connect, Topics
from distributor.bridge.snapshot_sync import SnapshotSync
from distributor.bridge.store_view import CommandPage
from distributor.bridge.subscriptions import Subscriptions
from distributor.identity.caller import Caller
from distributor.model.command import CommandState, Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from tests.support.dashboard_credentials import credential


def change(text: str, position: str, event: str = "") -> Change:
    state = CommandState(text, "a", "T", 50, CommandStatus.QUEUED, 0, Receipts())
    return Change(position, state, text, event=event or position)


def attempt(number: int, position: str) -> Change:
    state = CommandState("c", "a", "T", 50, CommandStatus.ASSIGNED, number, Receipts(), revision=number)
    return Change(position, state, f"attempt {number}", event=position)


class Hub:
    """At position 5, of which it is just snapshots; more comes while a dashboard returns."""

    def __init__(self) -> None:
        self.position = "5-0"
        self.delivered_until = "4-0"
        self.subscriptions: Subscriptions[Dashboard] = Subscriptions()
        self.dashboard: Dashboard | None = None
        self.stops: list[object] = []

    def send_backend_status(self, dashboard: Dashboard) -> None:
        pass

    def note_sent(self, state: CommandState, agent_away_since_ms: int, read_until: str) -> None:
        pass

    async def last_position(self) -> str:
        return "9-0"

    async def resync_reason(self, position: str) -> str:
        return ""

    def happens(self) -> None:
        """The rest of what it was snapshots of, which the history has as well; and then something new."""
        assert self.dashboard is not None
        self.deliver(self.dashboard, change("rest of five", "5-0"))
        self.position = "6-0"
        self.deliver(self.dashboard, change("some of six", "5-0", "6-0"))
        self.deliver(self.dashboard, change("rest of six", "6-0"))

    async def replay(self, after: str, until: str, dashboard: Dashboard) -> AsyncIterator[Change]:
        assert (after, until) == ("3-0", "5-0")
        for text in ("four", "five", "rest of five"):
            yield change(text, "4-0")

    def deliver(self, dashboard: Dashboard, told: Change) -> None:
        if dashboard.takes(told):
            self.pass_on(dashboard, told)

    def pass_on(self, dashboard: Dashboard, told: Change) -> None:
        dashboard.send_change(told)


class Agents:
    def __init__(self, meanwhile: Callable[[], None] = lambda: None) -> None:
        self.lock = asyncio.Lock()
        self._meanwhile = meanwhile

    async def snapshot(self, caller: Caller) -> list[Any]:
        self._meanwhile()
        return []


async def test_what_comes_while_a_dashboard_returns_is_told_once_and_in_order() -> None:
    hub = Hub()
    agents = Agents(hub.happens)
    snapshots = SnapshotSync(cast(Any, hub), cast(Any, None), cast(Any, None), cast(Any, agents), BridgeMetrics())
    dashboard = hub.dashboard = Dashboard("d", credential(), DashboardOutbox())
    await snapshots.connect(dashboard, Connect("token", Topics(all_commands=True), "3-0"))
    texts = [entry.text for entry in iter(dashboard.outbox.take, None)]
    assert '"resumed":true,"position":"3-0"' in texts[0]
    assert texts[1:] == ["four", "five", "rest of five", "some of six", "rest of six"]


class View:
    """Attempt 2 is what it reads; meanwhile the events of all three attempts come."""

    def __init__(self, dashboard: Dashboard) -> None:
        self._dashboard = dashboard

    def _events_come(self) -> None:
        for number in (1, 2, 3):
            self._dashboard.takes(attempt(number, f"6-{number}"))

    async def read(self, caller: Caller, command_ids: Sequence[str]) -> list[Change | None]:
        self._events_come()
        return [attempt(2, "")]

    async def page(self, caller: Caller, query: CommandFilter) -> CommandPage:
        self._events_come()
        return CommandPage([attempt(2, "").state], [{"commandId": "c"}], "", {})


@pytest.mark.parametrize("what", [Topics(commands=("c",)), Topics(all_commands=True)])
async def test_states_do_not_go_back_behind_what_was_read(what: Topics) -> None:
    hub = Hub()
    dashboard = Dashboard("d", credential(), DashboardOutbox())
    snapshots = SnapshotSync(
        cast(Any, hub), cast(Any, View(dashboard)), cast(Any, None), cast(Any, Agents()), BridgeMetrics()
    )
    await snapshots.subscribe(dashboard, what)
    read, *texts = [entry.text for entry in iter(dashboard.outbox.take, None)]
    assert read == "attempt 2" if what.commands else '"reason":"subscribed"' in read
    assert texts == ["attempt 3"]
