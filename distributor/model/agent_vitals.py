"""How an agent is doing, as its heartbeats report it and as it is stored."""

from __future__ import annotations

from typing import Final, NamedTuple

MAX_PROBLEMS: Final = 8
MAX_CODE_CHARACTERS: Final = 64
MAX_MESSAGE_CHARACTERS: Final = 256
LAG_STEP_MS: Final = 100
"""Handler lag is kept in steps of this size, rounded down: the usual few milliseconds of an idle agent are no news."""


class AgentVitals(NamedTuple):
    """What a heartbeat says about its agent besides being alive. Stored and announced only when it changes.

    `problems` are (code, message).
    """

    handler_lag_ms: int = 0
    draining: bool = False
    problems: tuple[tuple[str, str], ...] = ()


HEALTHY: Final = AgentVitals()
"""What a session starts with."""


def bounded_vitals(handler_lag_ms: int, draining: bool, problems: list[tuple[str, str]]) -> AgentVitals:
    """Vitals as stored: few problems with short texts, and the lag in steps of 100 ms."""
    shown = tuple(
        (code[:MAX_CODE_CHARACTERS], message[:MAX_MESSAGE_CHARACTERS]) for code, message in problems[:MAX_PROBLEMS]
    )
    return AgentVitals(max(0, handler_lag_ms) // LAG_STEP_MS * LAG_STEP_MS, draining, shown)
