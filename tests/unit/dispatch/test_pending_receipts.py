"""Receipts wait a moment, and are stored whatever happens."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from distributor.dispatch import pending_receipts
from distributor.dispatch.pending_receipts import PendingReceipts
from distributor.errors import Unavailable
from distributor.model.agent_report import LeaseRef
from distributor.model.agent_session import AgentSession
from distributor.model.delivery import Progress
from tests.support.memory_stores import MemoryStore
from tests.support.waiting import until

C1, C2 = LeaseRef("c1", "lease"), LeaseRef("c2", "lease")
LONG_SECONDS = 60.0


def session(agent_id: str = "agent123") -> AgentSession:
    """A session with two commands in flight since 100 ms, both acknowledged at 105."""
    opened = AgentSession(agent_id, 1, 5, 0.0)
    for lease in (C1, C2):
        opened.claimed(*lease, 1, 100.0)
        opened.received(*lease, 105.0)
    return opened


def progress(lease: LeaseRef, agent_id: str = "agent123") -> Progress:
    return Progress(lease.command_id, agent_id, lease.lease_id, 5, 5, None)


async def test_those_of_all_agents_are_stored_together_after_a_moment() -> None:
    store = MemoryStore()
    receipts = PendingReceipts(store, 0.001)
    receipts.add(session("a"), [C1])
    receipts.add(session("b"), [C1, C2, C1])
    assert store.progressed == []
    await until(lambda: store.progressed)
    assert store.progressed == [progress(C1, "a"), progress(C1, "b"), progress(C2, "b")]


async def test_what_is_taken_is_stored_by_the_taker() -> None:
    store, opened = MemoryStore(), session()
    receipts = PendingReceipts(store, LONG_SECONDS)
    receipts.add(opened, [C1, C2])
    assert receipts.take(opened, [C1, LeaseRef("c9", "lease"), C1]) == [C1]
    assert receipts.take(session(), [C2]) == []
    await receipts.flush(opened)
    await receipts.flush(opened)
    assert store.progressed == [progress(C2)]


async def test_those_that_cannot_be_stored_are_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pending_receipts, "WAIT_AFTER_FAILURE_SECONDS", 0.001)
    store, opened = MemoryStore(), session()
    store.away = True
    receipts = PendingReceipts(store, 0.001)
    receipts.add(opened, [C1])
    await until(lambda: store.failures >= 2)
    store.away = False
    await until(lambda: store.progressed)
    assert store.progressed == [progress(C1)]


async def test_the_owner_of_a_stream_learns_that_they_cannot_be_stored() -> None:
    store, opened = MemoryStore(), session()
    store.away = True
    receipts = PendingReceipts(store, LONG_SECONDS)
    receipts.add(opened, [C1])
    with pytest.raises(Unavailable):
        await receipts.flush(opened)


async def test_what_a_stream_leaves_unstored_is_stored_later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A command whose start was forgotten could run again."""
    monkeypatch.setattr(pending_receipts, "WAIT_AFTER_FAILURE_SECONDS", 0.001)
    store, opened = MemoryStore(), session()
    store.away = True
    receipts = PendingReceipts(store, 0.001)
    receipts.add(opened, [C1])
    with pytest.raises(Unavailable):
        await receipts.flush(opened)
    store.away = False
    await until(lambda: store.progressed)
    assert store.progressed == [progress(C1)]


async def test_a_flush_ends_once_what_is_being_stored_is_stored(monkeypatch: pytest.MonkeyPatch) -> None:
    store, opened, begun, answer = MemoryStore(), session(), asyncio.Event(), asyncio.Event()
    stored: list[Progress] = []

    async def store_slowly(items: Sequence[Progress]) -> list[bool]:
        begun.set()
        await answer.wait()
        stored.extend(items)
        return [True] * len(items)

    monkeypatch.setattr(store, "progress", store_slowly)
    receipts = PendingReceipts(store, 0.0)
    receipts.add(opened, [C1])
    await begun.wait()
    flushing = asyncio.create_task(receipts.flush(opened))
    await asyncio.sleep(0)
    assert not flushing.done()
    answer.set()
    await flushing
    assert stored == [progress(C1)]
