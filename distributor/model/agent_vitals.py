"""How an agent is doing, as its heartbeats report it and as it is stored."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

MAX_PROBLEMS: Final = 8
MAX_CODE_CHARACTERS: Final = 64
MAX_MESSAGE_CHARACTERS: Final = 256
LAG_STEP_MS: Final = 100
"""Handler lag is kept in steps of this size, rounded down: the usual few milliseconds of an idle agent are no news."""


MAX_SILENCES: Final = 100
"""Silent commands of one agent that are stored with its session."""
SAME_SIGN_MS: Final = 1_000.0
"""Signs of life closer than this are taken for the same one."""


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


def last_signs(silences: Iterable[tuple[str, float]], above_ms: float, now: float) -> dict[str, float]:
    """When each command that is silent for longer than `above_ms` gave its last sign of life, on the clock of `now`.

    `silences` are (command id, ms). At most 100, the longest first.
    """
    silent = sorted(((ms, command_id) for command_id, ms in silences if ms > above_ms), reverse=True)
    return {command_id: now - ms for ms, command_id in silent[:MAX_SILENCES]}


def same_signs(one: Mapping[str, float], other: Mapping[str, float]) -> bool:
    """Whether the same commands are silent, and gave no sign of life in between."""
    return one.keys() == other.keys() and all(abs(at - other[key]) < SAME_SIGN_MS for key, at in one.items())
