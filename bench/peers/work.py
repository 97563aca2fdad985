"""The work of one turn. Callers of peers import this too, so it needs only the standard library."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from enum import StrEnum

COMMAND_TYPE = "READ"
PARAMS: dict[str, str | int | bool] = {"path": "/var/log/syslog", "lines": 100, "follow": False}


class Shape(StrEnum):
    """How commands arrive."""

    BATCHED = "batched"
    SINGLY = "50 at a time"
    IDLE = "one at a time"


@dataclass(frozen=True)
class Work:
    """The commands of one turn."""

    shape: Shape
    commands: int
    batch: int = 1
    """Commands per call."""
    calls: int = 1
    """Concurrent calls."""
    outstanding: int = 1
    """Maximum number of commands without a result."""
    pause_seconds: float = 0.0
    """Pause after each command of `Shape.IDLE`, so that commands do not overlap."""

    def dump(self) -> str:
        """Encode the work as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, line: str) -> Work:
        """Decode what `dump` returned."""
        fields = json.loads(line)
        return cls(**{**fields, "shape": Shape(fields["shape"])})


@dataclass(frozen=True)
class Times:
    """What a caller measured in one turn."""

    seconds: float
    """From the first call to the last result, without pauses."""
    latencies_ms: list[float] = field(default_factory=list)
    """From each call to its result, for `Shape.IDLE` only."""

    def dump(self) -> str:
        """Encode the times as one line of JSON."""
        return json.dumps(asdict(self))

    @classmethod
    def load(cls, line: str) -> Times:
        """Decode what `dump` returned."""
        return cls(**json.loads(line))
