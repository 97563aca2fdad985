"""Unary calls with a deadline, retried while the server is unavailable."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from typing import Final, Protocol, TypeVar

import grpc

from distributor.client.options import ClientOptions
from distributor.client.status import error_of
from distributor.errors import DistributorError, Unavailable

Request = TypeVar("Request", contravariant=True)
Response = TypeVar("Response", covariant=True)


RATE_REASONS: Final = frozenset({"CALL_RATE_EXCEEDED", "COMMAND_RATE_EXCEEDED"})
"""Errors of a caller that is too fast."""


class Method(Protocol[Request, Response]):
    """A method of a stub, or one like it: one attempt, which raises AioRpcError or DistributorError."""

    def __call__(self, request: Request, *, timeout: float) -> Awaitable[Response]:
        """Send `request` and return the response, within `timeout` seconds."""


class UnaryCalls:
    """Makes calls that are safe to repeat: reads, cancels, and queueing under an idempotency key.

    A caller that exceeds its rate waits as long as the server says.
    """

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._target = target
        self._options = options

    async def call(self, method: Method[Request, Response], request: Request) -> Response:
        """Call `method`. Raises an error of `distributor.errors`; Unavailable when tries or time run out."""
        deadline = time.monotonic() + self._options.call_timeout_seconds
        attempt = 1
        while True:
            try:
                return await self._attempt(method, request, deadline - time.monotonic())
            except DistributorError as error:
                delay = self._delay_before_next(error, attempt)
                if delay is None or time.monotonic() + delay >= deadline:
                    raise
            await asyncio.sleep(delay)
            attempt += 1

    async def _attempt(self, method: Method[Request, Response], request: Request, seconds: float) -> Response:
        try:
            return await method(request, timeout=seconds)
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, self._target) from failure

    def _delay_before_next(self, error: DistributorError, attempt: int) -> float | None:
        if error.reason in RATE_REASONS and error.retry_after_seconds is not None:
            # Refused before anything was done, and the server knows when there is room. The deadline bounds this.
            return error.retry_after_seconds * (1.0 + self._options.jitter())
        if not isinstance(error, Unavailable) or self._options.calls.exhausted(attempt):
            return None
        delay = self._options.calls.delay_ms(attempt, self._options.jitter()) / 1000
        return max(delay, error.retry_after_seconds or 0.0)
