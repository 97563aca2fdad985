"""`distributor audit`: the bodies of its commands."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from distributor.cli.admin_calls import admin_client
from distributor.cli.audit_documents import ocsf_document, verification_document
from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import one_line
from distributor.cli.sender.columns import format_table
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.tables import short_time
from distributor.client.audit_client import AuditClient
from distributor.errors import ConfigurationError
from distributor.identity.audit_checkpoint import MAX_CHECKPOINT_BYTES
from distributor.model.audit_entry import AuditEntry
from distributor.model.audit_filter import AuditFilter
from distributor.model.audit_listing import ReadEntry, VerifiedAudit
from distributor.model.audit_verdict import Verdict
from distributor.wire.audit_documents import entry_document
from distributor.wire.documents import milliseconds_of, time_text

_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_IDS_SHOWN = 2


def administer(options: dict[str, Any], action: Callable[[AuditClient], Awaitable[ExitCode]]) -> None:
    """Call `action` with a client, and exit with its code."""

    async def call() -> int:
        async with admin_client(AuditClient, options["config"], options["server"]) as client:
            return int(await action(client))

    click.get_current_context().exit(asyncio.run(call()))


def filter_of(options: dict[str, Any]) -> AuditFilter:
    """The filter of the options. Raises UsageError for an invalid time."""
    return AuditFilter(
        after_ms=moment(options["since"], "--since"),
        before_ms=moment(options["until"], "--until"),
        actor=options["actor"],
        agent_id=options["agent_id"],
        command_id=options["command_id"],
        types=tuple(options["types"]),
        outcomes=tuple(options["outcomes"]),
    )


def moment(text: str, option: str) -> int:
    """Milliseconds of a time: RFC 3339, a date, or an age such as 2h; 0 for none. Raises UsageError."""
    if not text:
        return 0
    if text[-1] in _UNITS and text[:-1].isdigit():
        return round(time.time() * 1_000) - int(text[:-1]) * _UNITS[text[-1]] * 1_000
    try:
        if len(text) == len("2026-01-31"):
            return round(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp() * 1_000)
        return milliseconds_of(text)
    except (ValueError, OverflowError) as error:
        raise click.UsageError(
            f"{option} must be a time such as 2026-01-31T10:00:00Z, a date, or an age: 2h"
        ) from error


async def show_list(client: AuditClient, screen: Screen, wanted: AuditFilter, limit: int) -> ExitCode:
    """Show the newest entries in the order of a log: the newest last."""
    found: list[ReadEntry] = []
    token = ""
    while True:
        page = await client.page(wanted, token, min(1_000, limit - len(found)))
        found += page.entries
        token = page.next_token
        if not token or len(found) >= limit:
            break
    found.reverse()
    if not screen.for_people:
        screen.document([entry_document(one) for one in found])
    elif found:
        screen.text(entries_table(found))
    else:
        screen.message("no entries")
    if token and screen.for_people:
        screen.message(f"older entries exist; --limit shows more than {limit}")
    return ExitCode.SUCCESS


async def follow(client: AuditClient, screen: Screen, wanted: AuditFilter) -> ExitCode:
    """Show new entries as they come, until interrupted."""
    newest = await client.page(size=1)
    after = newest.entries[0].number if newest.entries else 0
    async with aclosing(client.export(wanted, after, follow=True)) as pieces:
        async for found in pieces:
            for one in found:
                if screen.for_people:
                    screen.text(entry_line(one))
                else:
                    screen.record(entry_document(one))
    return ExitCode.SUCCESS


async def export(client: AuditClient, screen: Screen, wanted: AuditFilter, after_seq: int, ocsf: bool) -> ExitCode:
    """Write matching entries as JSON lines, oldest first."""
    async with aclosing(client.export(wanted, after_seq)) as pieces:
        async for found in pieces:
            for one in found:
                document = ocsf_document(one) if ocsf else entry_document(one)
                if document is not None:
                    screen.record(document)
    return ExitCode.SUCCESS


async def verify(client: AuditClient, screen: Screen, checkpoints: Sequence[str]) -> ExitCode:
    """Show the verdicts. SUCCESS if all hold, else FAILED."""
    verified = await client.verify(checkpoints)
    if screen.for_people:
        screen.text(verdicts_text(verified))
    else:
        screen.document(verification_document(verified))
    return ExitCode.SUCCESS if verified.verdicts.ok else ExitCode.FAILED


def read_checkpoints(files: Sequence[Path]) -> list[str]:
    """The checkpoints in files, each of which may hold several, as `command-agent checkpoint` prints them."""
    found: list[str] = []
    for file in files:
        try:
            text = file.read_bytes()[: 100 * MAX_CHECKPOINT_BYTES].decode()
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigurationError(f"cannot read {file}: {error}", field="checkpoint") from error
        # A checkpoint ends with its signature, a line that begins with a dash.
        lines: list[str] = []
        for line in text.split("\n"):
            lines.append(line)
            if line.startswith("— "):
                found.append("\n".join(lines).lstrip("\n") + "\n")
                lines = []
        if any(line.strip() for line in lines):
            raise ConfigurationError(f"{file} does not hold checkpoints only", field="checkpoint")
    return found


def entries_table(found: Sequence[ReadEntry]) -> str:
    """A table of entries."""
    now_ms = round(time.time() * 1_000)
    rows = [(one, one.row) for one in found]
    table = {
        "no.": [str(one.number) for one, _ in rows],
        "time": [short_time(row.at_ms, now_ms) if row else "" for _, row in rows],
        "what": [row.entry.event.value if row else "unreadable" for _, row in rows],
        "outcome": [_outcome(one) for one, _ in rows],
        "who": [one_line(_actor(row.entry)) if row else "" for _, row in rows],
        "from": [one_line(row.entry.actor.address) if row else "" for _, row in rows],
        "about": [one_line(_about(row.entry)) if row else "" for _, row in rows],
    }
    return format_table(table)


def entry_line(one: ReadEntry) -> str:
    """One entry as a line."""
    if one.row is None:
        return f"{one.number} unreadable {_outcome(one)}"
    entry = one.row.entry
    parts = [str(one.number), time_text(one.row.at_ms), entry.code, entry.event.value, _outcome(one)]
    parts += [_actor(entry), entry.actor.address, _about(entry)]
    return one_line(" ".join(part for part in parts if part))


def verdicts_text(verified: VerifiedAudit) -> str:
    """What verifying found, a line for each verdict and finding."""
    verdicts = verified.verdicts
    lines = []
    for one in Verdict:
        lines.append(f"{one.value:<13} {'ok' if verdicts.holds(one) else f'FAULTY ({verdicts.counts[one]})'}")
        for found in verdicts.findings[one]:
            lines.append(one_line(f"  {f'row {found.seq}: ' if found.seq else ''}{found.text}"))
    lines.append(f"rows          {verdicts.rows:,} verified, the last is {verdicts.last_seq:,}")
    if verdicts.pruned_through:
        until = time_text(verdicts.pruned_until_ms)
        lines.append(f"pruned        through {verdicts.pruned_through:,} ({until}), past the retention")
    witnesses = f"{verdicts.witnesses} checkpoints from outside were confirmed"
    if not verdicts.witnesses:
        witnesses = (
            "none: only the trail itself shows its end; give --checkpoint (agents send theirs when they connect)"
        )
    lines.append(f"witnesses     {witnesses}")
    if verdicts.unverifiable:
        lines.append(f"keys          {verdicts.unverifiable:,} findings only say that a key is missing")
    return "\n".join(lines)


def _outcome(one: ReadEntry) -> str:
    if not one.authentic:
        return "TAMPERED"
    return one.row.entry.outcome.value if one.row else ""


def _actor(entry: AuditEntry) -> str:
    actor = entry.actor
    name = f"{actor.kind}:{actor.subject}" if actor.subject else actor.kind
    return f"{actor.on_behalf_of} via {name}" if actor.on_behalf_of else name


def _about(entry: AuditEntry) -> str:
    shown = [entry.agent_id, *entry.command_ids[:_IDS_SHOWN]]
    more = entry.count - min(len(entry.command_ids), _IDS_SHOWN)
    if entry.count > 1 and more > 0:
        shown.append(f"+{more:,}" if entry.command_ids else f"×{entry.count:,}")
    shown.append(entry.reason)
    shown += [f"{name}={value}" for name, value in entry.details.items() if name not in ("epoch", "root", "manifest")]
    return " ".join(part for part in shown if part)
