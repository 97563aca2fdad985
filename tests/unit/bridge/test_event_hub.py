"""The hub over a stream in memory: what it makes of events that were missed."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.dashboard import Dashboard
from distributor.bridge.dashboard_outbox import DashboardOutbox
from distributor.bridge.event_hub import EventHub, EventSource
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.errors import Unavailable
from distributor.model.command import CommandResult
from distributor.model.event import EventBatch, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.tasks import stop_tasks
from tests.support.dashboard_credentials import credential
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import changed, state
from tests.support.own_logs import own_logs
from tests.support.waiting import until


class Stream:
    """EventLog and history in one. Each batch is yielded once the test says so."""

    def __init__(self) -> None:
        self.upcoming: asyncio.Queue[EventBatch] = asyncio.Queue()
        self.last = "1000-0"
        self.kept = True
        self.tailed_from: list[str] = []
        self.pages: deque[bool] = deque()
        """For each page of the past, whether nothing before it was trimmed once it is read."""

    async def tail(self, position: str) -> AsyncGenerator[EventBatch, None]:
        self.tailed_from.append(position)
        while True:
            batch = await self.upcoming.get()
            if batch.origin == "gone":
                raise Unavailable("Valkey is away")
            yield batch

    async def last_position(self) -> str:
        return self.last

    async def reaches(self, position: str) -> bool:
        return self.kept

    async def between(self, after: str, until: str) -> list[EventBatch]:
        self.kept = self.pages.popleft()
        place = int(after.removesuffix("-0"))
        return (
            []
            if after == until
            else [EventBatch(f"{place + 1}-0", "replica", [changed(EventKind.STARTED, state("c"))])]
        )


def new_dashboard() -> Dashboard:
    return Dashboard("d", credential(), DashboardOutbox())


@asynccontextmanager
async def running_hub(
    stream: Stream, catch_up_seconds: float = 5.0, reader: MemoryReader | None = None
) -> AsyncIterator[tuple[EventHub, Dashboard]]:
    agents, log = AgentWatch(cast(Any, None), Subscriptions()), cast(Any, stream)
    view = StoreView(reader or MemoryReader())
    hub = EventHub(EventSource(log, log), view, cast(Any, None), agents, BridgeMetrics(), catch_up_seconds)
    await hub.catch_up()
    dashboard = new_dashboard()
    hub.dashboards.add(dashboard)
    running = asyncio.create_task(hub.run())
    try:
        yield hub, dashboard
    finally:
        await stop_tasks([running])


async def test_what_the_log_missed_is_told_to_everybody() -> None:
    stream = Stream()
    async with running_hub(stream) as (hub, dashboard):
        stream.upcoming.put_nowait(EventBatch("2000-0", "replica", ()))
        await until(lambda: hub.delivered_until == "2000-0")
        assert not dashboard.resync_needed.is_set()
        stream.upcoming.put_nowait(EventBatch("3000-0", "", (), missed=True))
        await dashboard.resync_needed.wait()
        assert (hub.position, hub.delivered_until) == ("3000-0", "3000-0")
    assert dashboard.resync_reason == "interrupted"


@pytest.mark.parametrize(
    ("last", "kept", "missed"), [("2000-0", True, False), ("2000-0", False, True), ("900-0", True, True)]
)
async def test_what_happened_while_the_store_was_away(last: str, kept: bool, missed: bool) -> None:
    stream = Stream()
    with own_logs() as logs:
        async with running_hub(stream) as (_, dashboard):
            await until(lambda: stream.tailed_from == ["1000-0"])
            stream.last, stream.kept = last, kept
            stream.upcoming.put_nowait(EventBatch("", "gone", ()))
            await until(lambda: len(stream.tailed_from) == 2)
    told = [line["event"] for line in logs if "missed" not in line["event"]]
    assert told == ["cannot read events", "can read events again"]
    assert dashboard.resync_needed.is_set() is missed
    assert stream.tailed_from[1] == (last if missed else "1000-0")


async def test_changes_of_one_event_carry_its_place_and_where_to_resume() -> None:
    """Who is told some of an event only must not resume after it, nor be told it again with what is replayed."""
    async with running_hub(Stream()) as (hub, dashboard):
        hub.subscriptions.add_all_commands(dashboard)
        dashboard.hold()
        batch = [changed(EventKind.STARTED, state(command_id)) for command_id in ("c1", "c2")]
        await hub.relay(EventBatch("2000-0", "replica", batch))
    assert [(one.position, one.event) for one in dashboard.release()] == [("1000-0", "2000-0"), ("2000-0", "2000-0")]


class FailingReader(MemoryReader):
    """Valkey is away when results are first read."""

    def __init__(self) -> None:
        super().__init__()
        self.failures = [Unavailable("Valkey is away")]

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        if self.failures:
            raise self.failures.pop()
        return await super().results(command_ids)


async def test_an_ending_whose_result_could_not_be_read_is_delivered_when_it_is_read_again() -> None:
    ended = state("c", CommandStatus.COMPLETED)
    batch = EventBatch("2000-0", "replica", [changed(EventKind.FINISHED, ended)])
    async with running_hub(Stream(), reader=FailingReader()) as (hub, dashboard):
        hub.subscriptions.add_all_commands(dashboard)
        dashboard.hold()
        with pytest.raises(Unavailable):
            await hub.relay(batch)
        assert hub.delivered_until == "1000-0"
        await hub.relay(batch)
    assert [change.state for change in dashboard.release()] == [ended]


async def test_a_state_read_ahead_of_its_event_is_delivered_to_those_who_come_in_between() -> None:
    """They resume after the event for which it was read."""
    reader = MemoryReader()
    ended = reader.known["c"] = state("c", CommandStatus.COMPLETED, revision=5)
    started = changed(EventKind.STARTED, state("c", revision=3))._replace(whole=None)
    async with running_hub(Stream(), reader=reader) as (hub, dashboard):
        hub.subscriptions.add_all_commands(dashboard)
        dashboard.hold()
        await hub.relay(EventBatch("2000-0", "replica", [started]))
        assert [change.state for change in dashboard.release()] == [ended]
        late = new_dashboard()
        hub.subscriptions.add_all_commands(late)
        late.hold()
        dashboard.hold()
        await hub.relay(EventBatch("3000-0", "replica", [started._replace(revision=4)]))
        await hub.relay(EventBatch("4000-0", "replica", [changed(EventKind.FINISHED, ended)]))
    assert [(change.state, change.event) for change in late.release()] == [(ended, "4000-0")]


@pytest.mark.parametrize(
    ("pages", "told", "trimmed"),
    [
        ([True, True, True], ["8-0", "9-0"], False),
        ([True, False], ["8-0"], True),
        ([True, True, False], ["8-0", "9-0"], True),
    ],
)
async def test_a_replay_that_trimming_overtakes_is_made_good(pages: list[bool], told: list[str], trimmed: bool) -> None:
    stream = Stream()
    async with running_hub(stream) as (hub, dashboard):
        hub.subscriptions.add_all_commands(dashboard)
        stream.pages.extend(pages)
        assert [change.position async for change in hub.replay("7-0", "9-0", dashboard)] == told
    assert dashboard.resync_needed.is_set() is trimmed
    assert dashboard.resync_reason == ("trimmed" if trimmed else "")


async def test_who_comes_from_a_bridge_that_was_ahead_resumes_once_this_one_is_there() -> None:
    stream = Stream()
    async with running_hub(stream) as (hub, _):
        stream.last = "3000-0"
        assert await hub.resync_reason("3001-0") == "unknown"
        asked = asyncio.create_task(hub.resync_reason("3000-0"))
        stream.upcoming.put_nowait(EventBatch("2000-0", "replica", ()))
        await until(lambda: hub.delivered_until == "2000-0")
        assert not asked.done()
        stream.upcoming.put_nowait(EventBatch("3000-0", "replica", ()))
        assert await asked == ""


async def test_who_comes_to_a_bridge_that_stays_behind_is_sent_away() -> None:
    stream = Stream()
    async with running_hub(stream, catch_up_seconds=0.01) as (hub, _):
        stream.last = "3000-0"
        with pytest.raises(Unavailable, match="behind"):
            await hub.resync_reason("3000-0")
