"""When an agent that reaches no server stops its work."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from distributor.agent import orphan_watch
from distributor.agent.current_session import CurrentSession
from distributor.agent.orphan_watch import LOOK_SECONDS, OrphanWatch
from tests.support.waiting import PATIENCE_SECONDS


class Host:
    """A host whose clock is set by the test, and the session of its agent."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.answered_at = 0.0
        self.orphaned = 0
        self.noticed = asyncio.Event()
        self.working = asyncio.Event()
        self.working.set()
        self.watch = OrphanWatch(30.0, cast(CurrentSession, self), self._orphaned, self.working, lambda: self.now)

    def _orphaned(self) -> None:
        self.orphaned += 1
        self.noticed.set()

    def look(self, at: float) -> int:
        """Look at a time, and return how often the agent was an orphan so far."""
        self.now = at
        self.watch.run_once()
        return self.orphaned


async def test_an_agent_is_an_orphan_after_the_time_and_again_after_each_further_time() -> None:
    host = Host()
    assert [host.look(at) for at in (1_029.9, 1_030.0, 1_059.9, 1_060.0)] == [0, 1, 1, 2]


async def test_the_time_counts_from_when_the_latest_answered_heartbeat_was_sent() -> None:
    host = Host()
    host.answered_at = 1_020.0
    assert [host.look(at) for at in (1_030.0, 1_049.9, 1_050.0)] == [0, 0, 1]


async def test_a_look_is_never_far_away_but_exact_at_the_end() -> None:
    host = Host()
    assert host.watch.pause() == LOOK_SECONDS
    host.now = 1_029.75
    assert host.watch.pause() == 0.25
    host.now = 1_600.0
    assert host.watch.pause() == 0.0


async def test_the_time_that_the_host_sleeps_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Timers of the event loop stand still while it sleeps: the one that was set before has 30 s to go."""
    monkeypatch.setattr(orphan_watch, "LOOK_SECONDS", 0.01)
    host = Host()
    watching = asyncio.create_task(host.watch.run())
    await asyncio.sleep(0)
    host.now += 600.0
    try:
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            await host.noticed.wait()
    finally:
        watching.cancel()
    assert host.orphaned == 1


async def test_an_agent_with_nothing_to_stop_is_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    host = Host()
    host.working.clear()
    looks, looked_often = list[float](), asyncio.Event()

    def pause() -> float:
        looks.append(host.now)
        if len(looks) == 3:
            looked_often.set()
        return 0.0

    monkeypatch.setattr(host.watch, "pause", pause)
    watching = asyncio.create_task(host.watch.run())
    host.now += 600.0
    for _ in range(100):
        await asyncio.sleep(0)
    assert (looks, host.orphaned) == ([], 0)
    # A command that starts then has the whole time from the latest answered heartbeat.
    host.answered_at = host.now
    host.working.set()
    try:
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            await looked_often.wait()
        assert host.orphaned == 0
        host.now += 30.0
        async with asyncio.timeout(PATIENCE_SECONDS / 2):
            await host.noticed.wait()
    finally:
        watching.cancel()
    assert host.orphaned == 1
