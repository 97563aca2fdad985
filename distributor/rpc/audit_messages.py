"""Converts between messages of AuditService and model values."""

from __future__ import annotations

from distributor.errors import InvalidArgument
from distributor.model.audit_filter import AuditFilter
from distributor.model.audit_listing import ReadEntry
from distributor.model.audit_verdict import AuditVerdicts, Verdict
from distributor.model.command import InvalidField
from distributor.rpc.command_messages import fill_time, time_ms
from distributor.v1 import audit_pb2 as pb


def audit_filter(message: pb.AuditFilter) -> AuditFilter:
    """Convert and check a filter. Raises InvalidArgument."""
    try:
        return AuditFilter(
            after_ms=time_ms(message.after, "filter.after") if message.HasField("after") else 0,
            before_ms=time_ms(message.before, "filter.before") if message.HasField("before") else 0,
            actor=message.actor,
            agent_id=message.agent_id,
            command_id=message.command_id,
            types=tuple(message.types),
            outcomes=tuple(message.outcomes),
        ).checked()
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def fill_entry(message: pb.AuditEntry, found: ReadEntry) -> None:
    """Write an entry into `message`; only its number if it cannot be decoded."""
    message.sequence, message.tampered = found.number, not found.authentic
    if found.row is None:
        return
    row, entry = found.row, found.row.entry
    fill_time(message.time, row.at_ms)
    message.type, message.code, message.outcome = entry.event.value, entry.code, entry.outcome.value
    message.actor_kind, message.actor = entry.actor.kind, entry.actor.subject
    message.on_behalf_of, message.address = entry.actor.on_behalf_of, entry.actor.address
    message.agent_id, message.reason, message.count = entry.agent_id, entry.reason, entry.count
    message.command_ids.extend(entry.command_ids)
    message.key_id = row.key_id
    for name, value in entry.details.items():
        message.details[name] = str(value)


def fill_verdicts(message: pb.VerifyAuditResponse, verdicts: AuditVerdicts) -> None:
    """Write verdicts into `message`."""
    message.rows, message.last_sequence = verdicts.rows, verdicts.last_seq
    message.pruned_through = verdicts.pruned_through
    if verdicts.pruned_until_ms:
        fill_time(message.pruned_until, verdicts.pruned_until_ms)
    message.origin, message.witnesses = verdicts.origin, verdicts.witnesses
    message.unverifiable = verdicts.unverifiable
    for verdict in Verdict:
        one = message.verdicts.add(name=verdict.value, holds=verdicts.holds(verdict), count=verdicts.counts[verdict])
        for finding in verdicts.findings[verdict]:
            one.findings.add(sequence=finding.seq, text=finding.text)
