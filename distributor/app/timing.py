"""How often a server looks and how long it waits, where no setting says so."""

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
    """A deadline that is set while the loop waits is acted on at most this much late."""
    liveness: float = LOOK_EVERY_SECONDS
    gauges: float = SAMPLE_EVERY_SECONDS
    hello: float = HELLO_TIMEOUT_SECONDS
    """How long a new stream may say nothing."""
    stopping_grace: float = 0.5
    """For calls under way when the gRPC server stops."""
    stopping_step: float = STEP_SECONDS
    """For each step of stopping, beyond the grace that it gives others."""
