"""Options of a client: timeouts and retries."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from distributor.client.signing import CommandSigner
from distributor.model.retry_policy import RetryPolicy
from distributor.wire.compression import DEFAULT_COMPRESSION, Compression
from distributor.wire.credentials import NO_CREDENTIALS, ClientCredentials

CALL_RETRIES: Final = RetryPolicy(attempts=4, first_ms=200, max_ms=2_000)
RECONNECT_DELAYS: Final = RetryPolicy(first_ms=200, max_ms=5_000)


@dataclass(frozen=True, slots=True)
class Connectivity:
    """Whether a watching client is connected to its server; if not, how long it retries."""

    target: str
    connected: bool
    retry_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientOptions:
    """Bounds on waiting for the server, and a callback for outages.

    `call_timeout_seconds` bounds one call with its retries; `calls` is their retry policy. A cut stream is reopened
    with the delays of `reconnects`, until the server has been unreachable for `give_up_after_seconds`.
    `on_connectivity` is called on the event loop when the first attempt to reopen fails, and when the server answers
    again: once for all streams of a client. `jitter` draws a number in [0, 1) for each delay, so that many clients of
    one server do not return at the same moment. `compression` is that of messages with params, results or
    output, if the server accepts it. `credentials` are the client's certificate and token, and the authorities it
    trusts. `signer` signs each command end to end.
    """

    call_timeout_seconds: float = 20.0
    calls: RetryPolicy = CALL_RETRIES
    reconnects: RetryPolicy = RECONNECT_DELAYS
    give_up_after_seconds: float = 60.0
    on_connectivity: Callable[[Connectivity], None] | None = None
    jitter: Callable[[], float] = random.random
    compression: Compression = DEFAULT_COMPRESSION
    signer: CommandSigner | None = None
    credentials: ClientCredentials = NO_CREDENTIALS
