"""Folds audit entries, so that neither load nor a flood of refusals can flood the trail. Pure: `now` is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from distributor.model.audit_entry import MAX_IDS, AuditActor, AuditEntry, AuditEvent, AuditOutcome

MAX_BUCKETS: Final = 2_000
MAX_SUMMARIES: Final = 200
SEVERAL: Final = "(several)"
"""Stands for subjects and addresses beyond MAX_SUMMARIES."""


@dataclass(frozen=True, slots=True)
class FoldingRate:
    """How many entries are written one by one: at once, and per second on average."""

    burst: float = 500.0
    per_second: float = 2.0


OF_A_CALLER: Final = FoldingRate()
"""For each kind of event of each known caller."""
OF_ALL: Final = FoldingRate(1_000.0, 1.0)
"""For each kind of event of everything that has no known caller: unknown ones, agents, and the server's own doing."""

_Key = tuple[AuditEvent, str, str, str]


@dataclass(slots=True)
class _Bucket:
    tokens: float
    filled_at: float


@dataclass(slots=True)
class Noted:
    """An entry, and the time in seconds at which the first event that it stands for happened."""

    entry: AuditEntry
    at: float


class AuditFolding:
    """Entries until they are taken.

    Events of one kind that one actor causes at one agent become one entry, as long as its command ids have room. Beyond
    the rate, all events of a kind of one actor become one entry: a summary, which counts them in `count` and is marked
    by `folded`. Summaries wait for `take(summaries=True)`.
    """

    def __init__(self, caller: FoldingRate = OF_A_CALLER, everyone: FoldingRate = OF_ALL) -> None:
        self._caller = caller
        self._everyone = everyone
        self._buckets: dict[_Key, _Bucket] = {}
        self._open: dict[object, Noted] = {}
        self._entries: list[Noted] = []
        self._summaries: dict[object, Noted] = {}
        self.folded = 0
        """Events that became part of a summary."""

    def __len__(self) -> int:
        """Entries that wait, without summaries."""
        return len(self._entries)

    @property
    def has_summaries(self) -> bool:
        """Whether a summary waits."""
        return bool(self._summaries)

    def add(self, entry: AuditEntry, now: float) -> None:
        """Add an entry, or make it part of one that waits."""
        key = (entry.event, entry.actor, entry.outcome, entry.agent_id, entry.reason, tuple(entry.details.items()))
        known = self._open.get(key)
        if known is not None and len(known.entry.command_ids) + len(entry.command_ids) <= MAX_IDS:
            known.entry = _merged(known.entry, entry)
        elif self._admits(entry, now):
            noted = Noted(entry, now)
            self._entries.append(noted)
            self._open[key] = noted
        else:
            self._summarise(entry, now)

    def take(self, *, most: int, summaries: bool) -> list[Noted]:
        """Take at most `most` entries, oldest first, and then all summaries."""
        taken, self._entries = self._entries[:most], self._entries[most:]
        # What waits on must not change any more, or it would be out of order.
        self._open.clear()
        if summaries:
            taken += self._summaries.values()
            self._summaries.clear()
        return taken

    def _admits(self, entry: AuditEntry, now: float) -> bool:
        actor = entry.actor
        known = actor.kind in ("user", "service")
        rate = self._caller if known else self._everyone
        key = (entry.event, actor.kind, actor.subject, actor.on_behalf_of) if known else (entry.event, "", "", "")
        bucket = self._buckets.pop(key, None) or _Bucket(rate.burst, now)
        # The one used last is at the end.
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.filled_at) * rate.per_second)
        bucket.filled_at = now
        if bucket.tokens < 1:
            return False
        bucket.tokens -= 1
        return True

    def _summarise(self, entry: AuditEntry, now: float) -> None:
        self.folded += entry.count
        key: tuple[AuditEvent, AuditOutcome, AuditActor] = (entry.event, entry.outcome, entry.actor)
        known = self._summaries.get(key)
        if known is None and len(self._summaries) >= MAX_SUMMARIES:
            several = replace(entry.actor, subject=SEVERAL, on_behalf_of="", address=SEVERAL)
            entry = replace(entry, actor=several)
            key = (entry.event, entry.outcome, several)
            known = self._summaries.get(key)
        if known is None:
            self._summaries[key] = Noted(replace(entry, details={"folded": entry.count}), now)
        else:
            merged = _merged(known.entry, entry)
            same = known.entry.agent_id == entry.agent_id
            known.entry = replace(merged, agent_id=entry.agent_id if same else "", details={"folded": merged.count})


def _merged(known: AuditEntry, more: AuditEntry) -> AuditEntry:
    ids = known.command_ids
    room = MAX_IDS - len(ids)
    return replace(known, command_ids=ids + more.command_ids[:room] if room else ids, count=known.count + more.count)
