"""Records in the audit trail which commands this replica has given to agents, and which have ended."""

from __future__ import annotations

from collections import defaultdict
from typing import Final

from distributor.dispatch.audit_recorder import Audit
from distributor.model.audit_entry import AuditEntry, AuditEvent, AuditOutcome
from distributor.model.event import CommandChanged, EventBatch, EventKind
from distributor.model.lifecycle import CommandStatus

_EVENTS: Final = {EventKind.ASSIGNED: AuditEvent.COMMAND_SENT, EventKind.FINISHED: AuditEvent.COMMAND_FINISHED}


class AuditedChanges:
    """Notes one entry for each agent, kind and status in a batch of events."""

    def __init__(self, audit: Audit) -> None:
        self._audit = audit

    def record(self, batch: EventBatch) -> None:
        """Record the events of a change that this replica has made."""
        ids: dict[tuple[AuditEvent, str, CommandStatus], list[str]] = defaultdict(list)
        for event in batch.events:
            if type(event) is CommandChanged and (kind := _EVENTS.get(event.kind)) is not None:
                ids[kind, event.agent_id, event.status].append(event.command_id)
        for (kind, agent_id, status), command_ids in ids.items():
            self._audit.note(_entry(kind, agent_id, status, tuple(command_ids)))


def _entry(kind: AuditEvent, agent_id: str, status: CommandStatus, command_ids: tuple[str, ...]) -> AuditEntry:
    if kind is AuditEvent.COMMAND_SENT:
        return AuditEntry(kind, agent_id=agent_id, command_ids=command_ids, count=len(command_ids))
    outcome = AuditOutcome.SUCCESS if status is CommandStatus.COMPLETED else AuditOutcome.FAILED
    return AuditEntry(
        kind, outcome=outcome, agent_id=agent_id, command_ids=command_ids, reason=status.value, count=len(command_ids)
    )
