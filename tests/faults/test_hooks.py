"""The points at which the campaign kills and stops processes exist, and each is used once."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.faults.campaign import hooks
from tests.faults.campaign.hooks import AGENT_POINTS, SERVER_POINTS, Point, When


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[signal.Signals]:
    """The signals that this process would have sent itself."""
    signals: list[signal.Signals] = []
    monkeypatch.setenv(hooks.FOLDER, str(tmp_path))
    monkeypatch.setattr("os.kill", lambda _, number: signals.append(number))
    return signals


class Product:
    """Has one method of each kind."""

    def call(self, value: int) -> int:
        return value

    async def coroutine(self, value: int) -> int:
        return value

    def awaitable(self, value: int) -> asyncio.Future[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(value)
        return future


@pytest.mark.parametrize("point", [*SERVER_POINTS.values(), *AGENT_POINTS.values()], ids=lambda point: point.method)
def test_every_point_is_a_method_of_the_product(
    point: Point, sent: list[signal.Signals], monkeypatch: pytest.MonkeyPatch
) -> None:
    owner = hooks.owner_of(point)
    method = getattr(owner, point.method)
    # Restores the method afterwards.
    monkeypatch.setattr(owner, point.method, method)
    hooks.install({"point": point})
    assert getattr(owner, point.method).__wrapped__ is method


@pytest.mark.parametrize("when", [When.BEFORE, When.AFTER])
@pytest.mark.parametrize("method", ["call", "coroutine"])
async def test_a_point_is_used_once_and_only_for_calls_that_count(
    method: str, when: When, sent: list[signal.Signals], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point("", method, when, lambda _, value: value > 1)
    await bites_once(point, sent, tmp_path, monkeypatch)


async def test_a_point_behind_an_awaitable(
    sent: list[signal.Signals], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    point = Point("", "awaitable", When.ANSWERED, lambda _, value: value > 1)
    await bites_once(point, sent, tmp_path, monkeypatch)


async def bites_once(point: Point, sent: list[signal.Signals], folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hooks, "owner_of", lambda _: Product)
    monkeypatch.setattr(Product, point.method, getattr(Product, point.method))
    hooks.install({"point": point})
    call: Callable[[int], Any] = getattr(Product(), point.method)

    async def called(value: int) -> None:
        result = call(value)
        assert (await result if not isinstance(result, int) else result) == value

    await called(2)
    assert (sent, hooks.bites(folder)) == ([], [])
    hooks.arm(folder, "point", signal.SIGSTOP)
    await called(1)
    assert sent == []
    await called(2)
    await called(2)
    assert sent == [signal.SIGSTOP]
    assert [name for name, _ in hooks.bites(folder)] == ["point"]
