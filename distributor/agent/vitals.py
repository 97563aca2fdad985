"""How an agent is doing, as its heartbeats report it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from distributor.model.command import Reason


class Silence(NamedTuple):
    """How long ago a running command gave its last sign of life, or started if it gave none, in seconds."""

    command_id: str
    seconds: float


class Vitals(NamedTuple):
    """Measured for one heartbeat.

    `load` is the one-minute load average of the host, `handler_lag` how late the handlers' loop was in seconds,
    `silences` those of running commands, and `problems` what keeps the agent from working well.
    """

    load: float = 0.0
    handler_lag: float = 0.0
    silences: Sequence[Silence] = ()
    problems: Sequence[Reason] = ()
