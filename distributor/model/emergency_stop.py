"""Emergency stops in force. Times: ms by the store's clock."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from distributor.model.stop_scope import StopScope

MAX_STOPS: Final = 100
"""Stops in force at a time."""
EMERGENCY_STOP: Final = "emergency_stop"
"""The reason code of commands that a stop has ended."""


class EmergencyStop(NamedTuple):
    """A stop in force. `since_ms` orders stops."""

    stop_id: str
    scope: StopScope
    reason: str
    stopped_by: str
    since_ms: int

    @property
    def message(self) -> str:
        """How commands and agents describe it."""
        return f"emergency stop {self.stop_id}" + (f": {self.reason}" if self.reason else "")


def stop_for(stops: Iterable[EmergencyStop], agent_id: str, labels: Mapping[str, str]) -> EmergencyStop | None:
    """The latest stop in whose scope an agent is."""
    found = [stop for stop in stops if stop.scope.matches(agent_id, labels)]
    return max(found, key=lambda stop: (stop.since_ms, stop.stop_id), default=None)
