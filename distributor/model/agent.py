"""What agents say of themselves, and what is known of them. Times are milliseconds by the store's clock."""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple


class AgentStatus(StrEnum):
    """How an agent is doing: connected with room, connected without, or not connected."""

    ONLINE = "online"
    BUSY = "busy"
    OFFLINE = "offline"


class AgentPresence(NamedTuple):
    """Whether an agent was ever seen, is connected, and if not, since when (0: never seen)."""

    known: bool
    present: bool
    away_since_ms: int


class HeldCommand(NamedTuple):
    """A command that an agent says it holds when it attaches: it runs it, or has its result."""

    command_id: str
    lease_id: str
    running: bool = True


class AdoptedCommand(NamedTuple):
    """A held command that is still the agent's. Receipts are ms after `assigned_ms`, None where not known."""

    command_id: str
    lease_id: str
    attempt: int
    assigned_ms: int
    sent_after_ms: int | None
    acknowledged_after_ms: int | None
    started_after_ms: int | None
    output_bytes: int
    cancel_requested: bool
    control: bool = False
    """Whether it takes up none of the agent's capacity."""


class AgentHello(NamedTuple):
    """How an agent introduces itself."""

    agent_id: str
    instance_id: str
    capacity: int
    types: tuple[str, ...]
    labels: dict[str, str]
    version: str
    held: tuple[HeldCommand, ...]


class Attached(NamedTuple):
    """An open session. `adopted` has the held commands that go on; the others are no longer the agent's.

    `counted` has the ids of those whose result is stored already and that are to run again.
    """

    epoch: int
    now_ms: int
    adopted: dict[str, AdoptedCommand]
    counted: frozenset[str] = frozenset()


class AgentInfo(NamedTuple):
    """What is known of an agent. `away_since_ms` is 0 while it is connected; `epoch` grows with each session."""

    agent_id: str
    epoch: int
    present: bool
    capacity: int
    running: int
    queued: int
    types: tuple[str, ...]
    labels: dict[str, str]
    version: str
    connected_ms: int
    last_seen_ms: int
    away_since_ms: int

    @property
    def status(self) -> AgentStatus:
        """Whether it is connected and has room."""
        if not self.present:
            return AgentStatus.OFFLINE
        return AgentStatus.BUSY if self.running >= self.capacity else AgentStatus.ONLINE
