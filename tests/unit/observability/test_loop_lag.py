from __future__ import annotations

import asyncio
import time

import pytest

from distributor.observability.loop_lag import LoopLag
from distributor.observability.metrics import Metrics


def lag(metrics: Metrics, what: str) -> float:
    return metrics.registry.get_sample_value(f"distributor_event_loop_lag_seconds_{what}") or 0.0


async def test_a_blocked_loop_is_seen() -> None:
    metrics = Metrics()
    probe = asyncio.ensure_future(LoopLag(metrics, interval_seconds=0.001).run_once())
    await asyncio.sleep(0)
    time.sleep(0.05)  # noqa: ASYNC251 - blocking the loop is the point
    await probe
    assert lag(metrics, "count") == 1
    assert lag(metrics, "sum") > 0.04


class ThreeMeasured(Metrics):
    """Metrics that tell when the third measurement came."""

    def __init__(self) -> None:
        super().__init__()
        self.done = asyncio.Event()

    def loop_lag(self, seconds: float) -> None:
        super().loop_lag(seconds)
        if lag(self, "count") == 3:
            self.done.set()


async def test_it_goes_on_until_cancelled() -> None:
    metrics = ThreeMeasured()
    task = asyncio.ensure_future(LoopLag(metrics, interval_seconds=0.001).run())
    await metrics.done.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
