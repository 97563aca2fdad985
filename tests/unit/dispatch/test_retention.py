from __future__ import annotations

import pytest

from distributor.dispatch.retention import Retention
from distributor.errors import Unavailable
from tests.support.memory_stores import MemoryStore
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import until


async def test_it_sweeps_part_by_part_until_nothing_is_left() -> None:
    store = MemoryStore()
    store.sweeps.extend([(1_000, "m"), (0, "z"), (5, ""), (0, "")])
    assert await Retention(store).run_once() == 1_005
    assert store.swept_after == ["", "m", "z", ""]


async def test_it_says_when_valkey_is_away() -> None:
    store = MemoryStore()
    store.away = True
    with pytest.raises(Unavailable):
        await Retention(store).run_once()


async def test_the_loop_sweeps_at_once_then_again_and_goes_on_after_a_failure() -> None:
    store = MemoryStore()
    store.away = True
    with own_logs() as logs:
        async with background(Retention(store, cleanup_interval=0.001).run()):
            await until(lambda: store.failures >= 2)
            store.away = False
            await until(lambda: len(store.swept_after) >= 2)
    assert [line["event"] for line in logs] == ["cannot sweep", "can sweep again"]
