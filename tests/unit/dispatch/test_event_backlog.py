from __future__ import annotations

from distributor.dispatch.event_backlog import EventBacklog
from distributor.errors import Unavailable
from tests.support.serving_agent import background
from tests.support.waiting import until


async def test_the_last_sample_stays_while_valkey_is_away() -> None:
    samples: list[int | None] = [3, None, 7]
    recorded: list[int] = []

    async def measure() -> int:
        sample = samples.pop(0) if samples else 0
        if sample is None:
            raise Unavailable("Valkey is away")
        return sample

    async with background(EventBacklog(measure, recorded.append, 0.001).run()):
        await until(lambda: len(recorded) >= 3)
    assert recorded[:3] == [3, 7, 0]
