"""Intervals and waits of a server that are not settings."""

from __future__ import annotations

from dataclasses import dataclass

from distributor.app.lifespan import STEP_SECONDS
from distributor.dispatch.deadlines import LONGEST_WAIT_SECONDS
from distributor.dispatch.gauges import SAMPLE_EVERY_SECONDS
from distributor.dispatch.liveness import LOOK_EVERY_SECONDS
from distributor.rpc.agent_gateway import HELLO_TIMEOUT_SECONDS


@dataclass(frozen=True, slots=True)
class ServerTiming:
    """Seconds. Operators have no reason to change these; tests shorten them."""

    deadlines: float = LONGEST_WAIT_SECONDS
    """The longest sleep of the loop: a deadline set meanwhile is noticed at most this much late."""
    liveness: float = LOOK_EVERY_SECONDS
    gauges: float = SAMPLE_EVERY_SECONDS
    hello: float = HELLO_TIMEOUT_SECONDS
    """For the first message of a new stream."""
    stopping_grace: float = 0.5
    """For calls that still run after the drain."""
    stopping_step: float = STEP_SECONDS
    """The most that each step of stopping takes, beyond the grace that it grants others."""
