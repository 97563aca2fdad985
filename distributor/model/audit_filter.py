"""A filter of rows of the audit trail."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from distributor.model.audit_entry import AuditEvent, AuditOutcome, AuditRow
from distributor.model.command import InvalidField

MAX_TYPES: Final = 50


@dataclass(frozen=True, slots=True)
class AuditFilter:
    """All that is set must apply. Times are milliseconds; `before_ms` 0 is no limit.

    `actor` is a subject, or the user on whose behalf it acted. A type that ends with a dot stands for all that begin
    so.
    """

    after_ms: int = 0
    before_ms: int = 0
    actor: str = ""
    agent_id: str = ""
    command_id: str = ""
    types: tuple[str, ...] = ()
    outcomes: tuple[str, ...] = ()

    def permits(self, row: AuditRow) -> bool:
        """Whether a row matches the filter."""
        entry = row.entry
        return (
            row.at_ms >= self.after_ms
            and not (self.before_ms and row.at_ms >= self.before_ms)
            and (not self.actor or self.actor in (entry.actor.subject, entry.actor.on_behalf_of))
            and (not self.agent_id or self.agent_id == entry.agent_id)
            and (not self.command_id or self.command_id in entry.command_ids)
            and (not self.types or any(_is(entry.event, one) for one in self.types))
            and (not self.outcomes or entry.outcome in self.outcomes)
        )

    def checked(self) -> AuditFilter:
        """Return the filter. Raises InvalidField for an unknown type or outcome."""
        if len(self.types) > MAX_TYPES:
            raise InvalidField("filter.types", "TOO_MANY_AUDIT_TYPES", f"at most {MAX_TYPES} types may be given")
        for one in self.types:
            if not any(_is(event, one) for event in AuditEvent):
                raise InvalidField(
                    "filter.types", "UNKNOWN_AUDIT_TYPE", f"there is no type '{one[:64]}' in the audit trail"
                )
        for one in self.outcomes:
            if one not in list(AuditOutcome):
                raise InvalidField(
                    "filter.outcomes", "UNKNOWN_AUDIT_OUTCOME", f"there is no outcome '{one[:64]}' in the audit trail"
                )
        return self


def _is(event: AuditEvent, wanted: str) -> bool:
    return event == wanted or (wanted.endswith(".") and event.startswith(wanted))


def _unknown(field: str, reason: str, what: str) -> InvalidField:
    return InvalidField(field, reason, f"there is no {what} in the audit trail")
