"""How a client behaves when the server is slow or away."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from distributor.model.retry_policy import RetryPolicy

CALL_RETRIES: Final = RetryPolicy(attempts=4, first_ms=200, most_ms=2_000)
RECONNECT_DELAYS: Final = RetryPolicy(first_ms=200, most_ms=5_000)


@dataclass(frozen=True, slots=True)
class Reach:
    """Whether the server of a client that watches something can be reached; if not, for how long it is tried again."""

    target: str
    reached: bool
    trying_for_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Bounds on waiting for the server, and who is told of it.

    `call_timeout_seconds` bounds one call with its retries; `calls` says how often and how soon it is tried again
    while the server is unavailable. A stream that was cut is opened again with the delays of `reconnects`, for up to
    `give_up_after_seconds` without a sign of the server. `on_reach` is
    called when that begins to take longer than one try, and when the server answers again: once for all streams of a
    client, from its event loop. `jitter` draws a number in [0, 1) for each delay: many clients that lost the same
    server do not come back in step.
    """

    call_timeout_seconds: float = 20.0
    calls: RetryPolicy = CALL_RETRIES
    reconnects: RetryPolicy = RECONNECT_DELAYS
    give_up_after_seconds: float = 60.0
    on_reach: Callable[[Reach], None] | None = None
    jitter: Callable[[], float] = random.random
