"""Intervals and timeouts of a server that are not settings."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.app.lifespan import STEP_SECONDS
from distributor.dispatch.deadlines import MAX_WAIT_SECONDS
from distributor.dispatch.gauges import SAMPLE_INTERVAL_SECONDS
from distributor.dispatch.liveness import CHECK_INTERVAL_SECONDS
from distributor.dispatch.revocations import LOOK_INTERVAL_SECONDS
from distributor.rpc.agent_gateway import HELLO_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class ServerTiming:
    """Times in seconds that operators need not change and tests shorten."""

    deadlines: float = MAX_WAIT_SECONDS
    """Maximum sleep of the loop: a deadline set meanwhile is noticed at most this late."""
    liveness: float = CHECK_INTERVAL_SECONDS
    gauges: float = SAMPLE_INTERVAL_SECONDS
    revocations: float = LOOK_INTERVAL_SECONDS
    """Time between looks for revocations."""
    hello: float = HELLO_TIMEOUT_SECONDS
    """Timeout for the first message of a new stream."""
    shutdown_grace: float = 0.5
    """Time for open calls to end after the drain."""
    shutdown_step: float = STEP_SECONDS
    """Time limit of each shutdown step, on top of its own grace."""
