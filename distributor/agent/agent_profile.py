"""The agent's description of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from distributor.model.command import Reason


@dataclass(frozen=True, slots=True)
class AgentProfile:
    """The agent's description of itself in each Hello."""

    agent_id: str
    instance_id: str
    capacity: int
    types: tuple[str, ...]
    labels: Mapping[str, str] = field(default_factory=dict)
    agent_version: str = ""
    inline_types: frozenset[str] = frozenset()
    """Types whose handlers never block and may start twice: they are called before their Received is sent."""
    denied: Mapping[str, Reason] = field(default_factory=dict)
    """Known types that the host does not allow, with the reason."""
    accepts_gzip: bool = False
    """Whether the server may send compressed messages."""
    journal_id: str = ""
    """Name of the agent's durable record, empty if it keeps none."""
    orphan_after: float = 0.0
    """Seconds without an answered heartbeat after which the agent stops all work; 0 for never."""
