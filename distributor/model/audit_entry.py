"""What the audit trail records: the kinds of events, and one entry."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Final

MAX_IDS: Final = 20
"""Command ids in an entry; `count` says how many commands there were."""
MAX_TEXT: Final = 256
"""Characters of each text; longer ones are cut."""
MAX_DETAILS: Final = 16

Detail = str | int


class AuditEvent(StrEnum):
    """Kinds of events."""

    COMMAND_QUEUED = "command.queued"
    COMMAND_CANCELLED = "command.cancelled"
    COMMAND_RETRIED = "command.retried"
    COMMAND_READ = "command.read"
    COMMAND_SENT = "command.sent"
    COMMAND_FINISHED = "command.finished"
    AGENT_CONNECTED = "agent.connected"
    AGENT_DISCONNECTED = "agent.disconnected"
    AGENT_ENROLLED = "agent.enrolled"
    AGENT_REVOKED = "agent.revoked"
    AGENT_RESTORED = "agent.restored"
    AGENT_RENEWED = "agent.renewed"
    CALLER_CONNECTED = "caller.connected"
    CALLER_REFUSED = "caller.refused"
    PERMISSION_DENIED = "permission.denied"
    DASHBOARD_CONNECTED = "dashboard.connected"
    DASHBOARD_DISCONNECTED = "dashboard.disconnected"
    TOKEN_MINTED = "token.minted"
    TOKEN_REVOKED = "token.revoked"
    SERVICE_REVOKED = "service.revoked"
    SERVICE_RESTORED = "service.restored"
    LIMIT_EXCEEDED = "limit.exceeded"
    EMERGENCY_STOPPED = "emergency.stopped"
    EMERGENCY_RESUMED = "emergency.resumed"
    SERVER_STARTED = "server.started"
    SERVER_STOPPED = "server.stopped"
    SETTINGS_CHANGED = "settings.changed"
    ADMIN_CALLED = "admin.called"
    CHAIN_STARTED = "audit.started"
    AUDIT_READ = "audit.read"
    SEGMENT_OPENED = "audit.segment_opened"
    PRUNED = "audit.pruned"
    ANCHORED = "audit.anchored"
    KEY_ROTATED = "audit.key_rotated"
    GAP = "audit.gap"
    WITNESS_CONTRADICTED = "audit.witness_contradicted"


CODES: Final[Mapping[AuditEvent, str]] = {
    AuditEvent.COMMAND_QUEUED: "CMD01",
    AuditEvent.COMMAND_CANCELLED: "CMD02",
    AuditEvent.COMMAND_RETRIED: "CMD03",
    AuditEvent.COMMAND_READ: "CMD04",
    AuditEvent.COMMAND_SENT: "CMD05",
    AuditEvent.COMMAND_FINISHED: "CMD06",
    AuditEvent.AGENT_CONNECTED: "AGT01",
    AuditEvent.AGENT_DISCONNECTED: "AGT02",
    AuditEvent.AGENT_ENROLLED: "AGT03",
    AuditEvent.AGENT_REVOKED: "AGT04",
    AuditEvent.AGENT_RESTORED: "AGT05",
    AuditEvent.AGENT_RENEWED: "AGT06",
    AuditEvent.CALLER_CONNECTED: "AUT01",
    AuditEvent.CALLER_REFUSED: "AUT02",
    AuditEvent.PERMISSION_DENIED: "AUT03",
    AuditEvent.DASHBOARD_CONNECTED: "AUT04",
    AuditEvent.DASHBOARD_DISCONNECTED: "AUT05",
    AuditEvent.TOKEN_MINTED: "TOK01",
    AuditEvent.TOKEN_REVOKED: "TOK02",
    AuditEvent.SERVICE_REVOKED: "SVC01",
    AuditEvent.SERVICE_RESTORED: "SVC02",
    AuditEvent.LIMIT_EXCEEDED: "LIM01",
    AuditEvent.EMERGENCY_STOPPED: "EMG01",
    AuditEvent.EMERGENCY_RESUMED: "EMG02",
    AuditEvent.SERVER_STARTED: "CFG01",
    AuditEvent.SERVER_STOPPED: "CFG02",
    AuditEvent.SETTINGS_CHANGED: "CFG03",
    AuditEvent.ADMIN_CALLED: "ADM01",
    AuditEvent.CHAIN_STARTED: "AUD01",
    AuditEvent.AUDIT_READ: "AUD02",
    AuditEvent.SEGMENT_OPENED: "AUD03",
    AuditEvent.PRUNED: "AUD04",
    AuditEvent.ANCHORED: "AUD05",
    AuditEvent.KEY_ROTATED: "AUD06",
    AuditEvent.GAP: "AUD07",
    AuditEvent.WITNESS_CONTRADICTED: "AUD08",
}
"""Three letters and two digits for each kind."""


class AuditOutcome(StrEnum):
    """How an event ended. An `attempt` precedes the action of an administrator; its outcome follows in another row."""

    SUCCESS = "success"
    ATTEMPT = "attempt"
    REFUSED = "refused"
    FAILED = "failed"


_LETTERS: Final = {
    AuditOutcome.SUCCESS: "I",
    AuditOutcome.ATTEMPT: "I",
    AuditOutcome.REFUSED: "W",
    AuditOutcome.FAILED: "E",
}


@dataclass(frozen=True, slots=True)
class AuditActor:
    """Who acted, and from where. `kind` is that of a caller, or `server` for what a server does by itself."""

    kind: str = "server"
    subject: str = ""
    on_behalf_of: str = ""
    address: str = ""


SERVER: Final = AuditActor()


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """What happened. Never holds params, results, output or tokens: `reason` is a reason code, ids name the rest.

    `count` is the number of events that the entry stands for; for commands, the number of commands.
    """

    event: AuditEvent
    actor: AuditActor = SERVER
    outcome: AuditOutcome = AuditOutcome.SUCCESS
    agent_id: str = ""
    command_ids: tuple[str, ...] = ()
    reason: str = ""
    count: int = 1
    details: Mapping[str, Detail] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """The code of the event, with a letter for the outcome: I (information), W (refused) or E (failed)."""
        return CODES[self.event] + _LETTERS[self.outcome]

    def with_details(self, **details: Detail) -> AuditEntry:
        """The same entry with further details."""
        return replace(self, details={**self.details, **details})


@dataclass(frozen=True, slots=True)
class AuditRow:
    """An entry in its place of the chain. `at_ms` is by Valkey's clock and never decreases within a chain."""

    seq: int
    at_ms: int
    entry: AuditEntry
    key_id: str
    segment: int = 0
