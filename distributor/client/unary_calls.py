"""Unary calls with a deadline, retried while the server is unavailable."""

from __future__ import annotations

import asyncio
import time
from typing import TypeVar

import grpc

from distributor.client.options import ClientOptions
from distributor.client.status import error_of
from distributor.errors import DistributorError, Unavailable

Request = TypeVar("Request")
Response = TypeVar("Response")


class UnaryCalls:
    """Makes calls that are safe to repeat: reads, cancels, and queueing under an idempotency key."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = target
        self._options = options

    async def call(self, method: grpc.aio.UnaryUnaryMultiCallable[Request, Response], request: Request) -> Response:
        """Call `method`. Raises an error of `distributor.errors`; Unavailable when tries or time run out."""
        deadline = time.monotonic() + self._options.call_timeout_seconds
        attempt = 1
        while True:
            try:
                return await method(request, timeout=deadline - time.monotonic())
            except grpc.aio.AioRpcError as failure:
                error = error_of(failure, self._target)
                delay = self._delay_before_next(error, attempt)
                if delay is None or time.monotonic() + delay >= deadline:
                    raise error from failure
            await asyncio.sleep(delay)
            attempt += 1

    def _delay_before_next(self, error: DistributorError, attempt: int) -> float | None:
        if not isinstance(error, Unavailable) or self._options.calls.exhausted(attempt):
            return None
        delay = self._options.calls.delay_ms(attempt, self._options.jitter()) / 1000
        return max(delay, error.retry_after_seconds or 0.0)
