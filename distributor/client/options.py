"""How a client behaves when the server is slow or away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from distributor.model.retry_policy import RetryPolicy

CALL_RETRIES: Final = RetryPolicy(attempts=4, first_ms=200, most_ms=2_000)
RECONNECT_DELAYS: Final = RetryPolicy(first_ms=200, most_ms=5_000)


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Bounds on waiting for the server.

    `call_timeout_seconds` bounds one call with its retries; `calls` says how often and how soon it is tried again
    while the server is unavailable. A stream that was cut is opened again with the delays of `reconnects`, for up to
    `give_up_after_seconds` without a sign of the server.
    """

    call_timeout_seconds: float = 20.0
    calls: RetryPolicy = CALL_RETRIES
    reconnects: RetryPolicy = RECONNECT_DELAYS
    give_up_after_seconds: float = 60.0
