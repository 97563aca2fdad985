"""What agents report about themselves and what is known about them. Times: ms by the store's clock."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import NamedTuple

from distributor.model.agent_vitals import AgentVitals
from distributor.model.emergency_stop import EmergencyStop


class AgentStatus(StrEnum):
    """How an agent can serve. Of several that hold, the first counts."""

    OFFLINE = "offline"
    """Not connected, or silent for too long."""
    DRAINING = "draining"
    """Connected; accepts no more commands and leaves after the running ones."""
    DEGRADED = "degraded"
    """Connected, but it has problems or its last proof of life is old."""
    BUSY = "busy"
    """Connected, with no free slot."""
    ONLINE = "online"
    """Connected, with free slots."""


class AgentPresence(NamedTuple):
    """Whether an agent has ever attached, is connected, and if not, since when (0: never attached)."""

    known: bool
    present: bool
    away_since_ms: int


class HeldCommand(NamedTuple):
    """A command that an attaching agent still runs, or whose result it still has to deliver.

    `output_bytes` is how much output it has produced under this lease.
    """

    command_id: str
    lease_id: str
    running: bool = True
    output_bytes: int = 0


class AdoptedCommand(NamedTuple):
    """A held command that stays with the agent. Receipts are ms after `assigned_ms`, None if unknown."""

    command_id: str
    lease_id: str
    attempt: int
    assigned_ms: int
    sent_after_ms: int | None
    acknowledged_after_ms: int | None
    started_after_ms: int | None
    output_bytes: int
    cancel_reason: str | None
    """The message of the caller who cancelled it, None if nobody did."""
    control: bool = False
    """True if it uses none of the agent's capacity."""
    revision: int = 0
    """The revision that made it the session's; earlier changes are of the past."""
    slots: int = 1
    """How much of the agent's capacity it uses, unless it is a control command."""


class Renewal(NamedTuple):
    """A heartbeat to store.

    `vitals` is None if they have not changed, and so is `silences`: how long each silent command has been so, in ms.
    """

    agent_id: str
    epoch: int
    vitals: AgentVitals | None = None
    silences: Mapping[str, int] | None = None


class AgentHello(NamedTuple):
    """An agent's registration when it attaches."""

    agent_id: str
    instance_id: str
    capacity: int
    types: tuple[str, ...]
    labels: Mapping[str, str]
    """Once its credential is known, those that count."""
    version: str
    held: tuple[HeldCommand, ...]
    accepts_gzip: bool = False
    """Whether it accepts compressed messages."""
    journal_id: str = ""
    """Names its durable record; empty if it keeps none."""
    peer: str = ""
    """Its address, as the server sees it."""
    orphan_after_ms: int = 0
    """After how long without a server it stops all work; 0 for never."""
    checkpoint: str = ""
    """The newest checkpoint of the audit trail that it remembers; empty if it remembers none."""
    knows_halts: bool = False
    """Whether it knows emergency stops."""
    halted: str = ""
    """The emergency stop under which it is halted; empty if it is not."""


class Attached(NamedTuple):
    """An open session. `adopted` maps the held commands that continue; all others no longer belong to the agent.

    `counted` lists commands whose result is already stored and that will run again.
    """

    epoch: int
    now_ms: int
    adopted: dict[str, AdoptedCommand]
    counted: frozenset[str] = frozenset()
    ended: frozenset[str] = frozenset()
    """Commands that ended without the result that the agent has: that is kept as late."""
    earlier_journal_id: str = ""
    """Of the agent's last session, if the agent came back with another journal or none."""
    stop: EmergencyStop | None = None
    """The latest emergency stop in force for the agent."""


class AgentInfo(NamedTuple):
    """What is known about an agent. `away_since_ms` is 0 while connected; `epoch` grows with each session.

    `revision` counts the changes of a session: attach, detach and new vitals. Of two states, the one with the higher
    epoch, then the higher revision, is newer. `present`, `running`, `slots_used` and `queued` are as of the read: of
    equal ones, the later read counts. `running` and `queued` count commands.
    """

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
    revision: int = 0
    journal_id: str = ""
    """Names its durable record; empty if it keeps none."""
    problems: tuple[tuple[str, str], ...] = ()
    """What is wrong with it, each as (code, message), such as another instance that claims its id."""
    handler_lag_ms: int = 0
    """How late the loop that runs its handlers was at the last heartbeat, in steps of 100 ms."""
    draining: bool = False
    """Whether it accepts no more commands and leaves after the running ones."""
    degraded: bool = False
    """Whether it has problems that keep it from working well, or its last proof of life is old."""
    slots_used: int = 0
    """Slots of its capacity that the running commands use. Most use one, control commands none."""

    @property
    def status(self) -> AgentStatus:
        """The first status that holds, in the order of AgentStatus."""
        holds = {
            AgentStatus.OFFLINE: not self.present,
            AgentStatus.DRAINING: self.draining,
            AgentStatus.DEGRADED: self.degraded,
            AgentStatus.BUSY: self.slots_used >= self.capacity,
        }
        return next((status for status, held in holds.items() if held), AgentStatus.ONLINE)
