"""Calls that are made again while the server is away."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from distributor import errors
from distributor.client import ClientOptions, unary_calls
from distributor.client.unary_calls import UnaryCalls
from distributor.model.retry_policy import RetryPolicy

NOTHING: Any = grpc.aio.Metadata()


class AwayFor:
    """A method that fails some times before it answers."""

    def __init__(self, times: int) -> None:
        self.times = times

    async def __call__(self, request: object, timeout: float) -> str:
        if self.times:
            self.times -= 1
            raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, NOTHING, NOTHING, details="away")
        return "answer"


async def test_pauses_between_tries_grow_and_are_jittered(monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(delay: float) -> None:
        slept.append(delay)

    # Not asyncio's own: loops of servers that other tests share would spin.
    monkeypatch.setattr(unary_calls, "asyncio", SimpleNamespace(sleep=sleep))
    delays = RetryPolicy(attempts=4, first_ms=1_000, max_ms=60_000)
    calls = UnaryCalls("host:1", ClientOptions(calls=delays, jitter=iter([0.5, 0.25, 0.75]).__next__))
    method: Any = AwayFor(3)

    assert await calls.call(method, "request") == "answer"
    assert slept == [0.5, 0.5, 3.0]

    method.times = 4
    with pytest.raises(errors.Unavailable):
        await UnaryCalls("host:1", ClientOptions(calls=delays, jitter=lambda: 0.0)).call(method, "request")


def test_the_jitter_of_clients_differs() -> None:
    assert ClientOptions().jitter() != ClientOptions().jitter()
