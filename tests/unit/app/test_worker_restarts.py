"""A worker that ends is started again, later and later; one that is stopped is not."""

from __future__ import annotations

import asyncio
from typing import Any

from distributor.app.worker_restarts import LONGEST_PAUSE_SECONDS, STEADY_SECONDS, WorkerRestarts
from distributor.errors import Unavailable
from tests.support.virtual_time import run_in_virtual_time


class ScriptedWorker:
    """Ends after so many seconds; fails to start if that is negative."""

    number = 1
    failure = None

    def __init__(self, lives: float) -> None:
        self._lives = lives

    async def start(self) -> None:
        if self._lives < 0:
            raise Unavailable("cannot start")

    async def ended(self) -> int:
        await asyncio.sleep(self._lives)
        return -9

    async def stop(self, grace_seconds: float) -> None:
        self._lives = 0.0


class Script:
    """Makes workers with these lives, and notes when each was made."""

    def __init__(self, *lives: float) -> None:
        self._lives = list(lives)
        self.made: list[float] = []
        self.restarted = 0

    def restarts(self) -> WorkerRestarts:
        return WorkerRestarts(self._make, self._restarted)

    def _make(self) -> Any:
        self.made.append(asyncio.get_running_loop().time())
        return ScriptedWorker(self._lives.pop(0))

    def _restarted(self) -> None:
        self.restarted += 1


def pauses(script: Script, lives: list[float]) -> list[float]:
    times = zip(script.made, script.made[1:], strict=False)
    return [round(after - before - max(0.0, life), 2) for (before, after), life in zip(times, lives, strict=False)]


def test_pauses_double_while_a_worker_does_not_last_and_end_when_it_does() -> None:
    lives = [0.0, 0.0, -1.0, -1.0, 0.0, 0.0, 0.0, STEADY_SECONDS, 0.0]

    async def run() -> Script:
        script = Script(*lives)
        restarts = script.restarts()
        await restarts.start()
        while len(script.made) < len(lives):
            await restarts.run_once()
        return script

    script = run_in_virtual_time(run())
    assert pauses(script, lives) == [0.25, 0.5, 1.0, 2.0, 4.0, 8.0, LONGEST_PAUSE_SECONDS, 0.25]
    assert script.restarted == len(lives) - 1 - lives.count(-1.0)


def test_a_stopped_worker_is_not_started_again() -> None:
    async def run() -> Script:
        script = Script(1.0)
        restarts = script.restarts()
        await restarts.start()
        await restarts.stop(0.0)
        running = asyncio.create_task(restarts.run())
        await asyncio.sleep(60.0)
        assert not running.done()
        running.cancel()
        return script

    assert len(run_in_virtual_time(run()).made) == 1
