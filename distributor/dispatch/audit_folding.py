"""Folds audit entries, so that neither load nor a flood of refusals can flood the trail. Pure: `now` is an argument."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Final

from distributor.dispatch.audit_shares import AuditShares
from distributor.model.audit_entry import MAX_IDS, AuditActor, AuditEntry, AuditEvent, AuditOutcome

MAX_BUCKETS: Final = 2_000
MAX_SUMMARIES: Final = 200
MAX_HELD: Final = 10
MAX_HELD_OF_CALLERS: Final = 40
HELD_SECONDS: Final = 300.0
"""Time between summaries of refusals that anyone can cause, and of entries that exceed a share of the trail."""
SEVERAL: Final = "(several)"
"""Stands for subjects and addresses beyond MAX_SUMMARIES, and beyond MAX_HELD."""


@dataclass(frozen=True, slots=True)
class FoldingRate:
    """How many entries are written one by one: at once, and per second on average."""

    burst: float = 500.0
    per_second: float = 2.0


OF_A_CALLER: Final = FoldingRate()
"""For each kind of event of each known caller."""
OF_A_DELEGATE: Final = FoldingRate(1_000.0, 200.0)
"""For each kind of event of each bridge, with all users that it calls for: it names them, and could invent some."""
OF_ALL: Final = FoldingRate(1_000.0, 1.0)
"""For each kind of event of everything that has no known caller: unknown ones, agents, and the server's own doing."""
OF_STRANGERS: Final = FoldingRate(1_000.0, 0.01)
"""For each kind of refusal of these: with its summaries, less than a fifth of a million rows in 30 days."""

_ALL_USERS: Final = "\0"
"""No subject, as these are printable."""
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


class _Growing:
    """An entry that others may still become part of."""

    __slots__ = ("_agent_id", "_at", "_count", "_entry", "_folded", "_ids")

    def __init__(self, entry: AuditEntry, at: float, *, folded: bool = False) -> None:
        self._entry = entry
        self._at = at
        self._ids = [*entry.command_ids[:MAX_IDS]]
        self._count = entry.count
        self._agent_id = entry.agent_id
        self._folded = folded

    def has_room(self, more: AuditEntry) -> bool:
        return len(self._ids) + len(more.command_ids) <= MAX_IDS

    def add(self, more: AuditEntry) -> None:
        self._count += more.count
        if len(self._ids) < MAX_IDS:
            self._ids += more.command_ids[: MAX_IDS - len(self._ids)]
        if more.agent_id != self._agent_id:
            self._agent_id = ""

    def noted(self) -> Noted:
        details = {"folded": self._count} if self._folded else self._entry.details
        entry = replace(
            self._entry, agent_id=self._agent_id, command_ids=tuple(self._ids), count=self._count, details=details
        )
        return Noted(entry, self._at)


class AuditFolding:
    """Entries until they are taken.

    Events of one kind that one actor causes at one agent become one entry, as long as its command ids have room. Beyond
    the rate, all events of a kind of one actor become one entry: a summary, which counts them in `count` and is marked
    by `folded`. Summaries wait for `take(summaries=True)`.

    Refusals of strangers, which cost no credential, must not displace the rows of others from the trail, which has a
    limited length: their summaries are few, and are held until `release`.

    While the trail fills up, the same holds for what exceeds an actor's share of it (`AuditShares`).
    """

    def __init__(
        self,
        caller: FoldingRate = OF_A_CALLER,
        everyone: FoldingRate = OF_ALL,
        strangers: FoldingRate = OF_STRANGERS,
        shares: AuditShares | None = None,
    ) -> None:
        self.shares = shares if shares is not None else AuditShares()
        """What each actor may write while the trail fills up."""
        self._caller = caller
        self._everyone = everyone
        self._strangers = strangers
        self._buckets: dict[_Key, _Bucket] = {}
        self._open: dict[object, _Growing] = {}
        self._entries: list[_Growing] = []
        self._summaries: dict[object, _Growing] = {}
        self._held: dict[object, _Growing] = {}
        self._held_of_callers: dict[object, _Growing] = {}
        self._release_at = 0.0
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
        details = tuple(entry.details.items()) if entry.details else ()
        key = (entry.event, entry.actor, entry.outcome, entry.agent_id, entry.reason, details)
        known = self._open.get(key)
        if known is not None and known.has_room(entry):
            known.add(entry)
        elif self._admits(entry, now):
            growing = _Growing(entry, now)
            self._entries.append(growing)
            self._open[key] = growing
        else:
            self._summarise(entry, now)

    def release(self, now: float) -> None:
        """Have the next `take` return the summaries that are held, unless it is too early. `now` as in `add`."""
        if (self._held or self._held_of_callers) and now >= self._release_at:
            self._release_at = now + HELD_SECONDS
            self._summaries |= self._held | self._held_of_callers
            self._held, self._held_of_callers = {}, {}

    def take(self, *, most: int, summaries: bool) -> list[Noted]:
        """Take at most `most` entries, oldest first, and then all summaries."""
        taken, self._entries = self._entries[:most], self._entries[most:]
        # Entries left here must not grow any more, or they would be out of order.
        self._open.clear()
        if summaries:
            taken += self._summaries.values()
            self._summaries.clear()
        return [one.noted() for one in taken]

    def _admits(self, entry: AuditEntry, now: float) -> bool:
        actor = entry.actor
        stranger = _of_stranger(entry)
        buckets = [self._bucket(key, rate, now) for key, rate in self._rates(entry, stranger=stranger)]
        if any(bucket.tokens < 1 for bucket in buckets) or not (stranger or self.shares.admits(actor, now)):
            return False
        for bucket in buckets:
            bucket.tokens -= 1
        return True

    def _rates(self, entry: AuditEntry, *, stranger: bool) -> list[tuple[_Key, FoldingRate]]:
        """The rates that apply to an entry, each with what is counted together."""
        actor = entry.actor
        if stranger:
            return [((entry.event, "stranger", "", ""), self._strangers)]
        if actor.kind not in ("user", "service"):
            return [((entry.event, "", "", ""), self._everyone)]
        own = (entry.event, actor.kind, actor.subject, actor.on_behalf_of), self._caller
        if not actor.on_behalf_of:
            return [own]
        return [own, ((entry.event, actor.kind, actor.subject, _ALL_USERS), OF_A_DELEGATE)]

    def _bucket(self, key: _Key, rate: FoldingRate, now: float) -> _Bucket:
        bucket = self._buckets.pop(key, None) or _Bucket(rate.burst, now)
        # The one used last is at the end.
        self._buckets[key] = bucket
        if len(self._buckets) > MAX_BUCKETS:
            del self._buckets[next(iter(self._buckets))]
        bucket.tokens = min(rate.burst, bucket.tokens + (now - bucket.filled_at) * rate.per_second)
        bucket.filled_at = now
        return bucket

    def _summarise(self, entry: AuditEntry, now: float) -> None:
        self.folded += entry.count
        key: tuple[AuditEvent, AuditOutcome, AuditActor] = (entry.event, entry.outcome, entry.actor)
        if _of_stranger(entry):
            summaries, most = self._held, MAX_HELD
        elif self.shares.scarce:
            summaries, most = self._held_of_callers, MAX_HELD_OF_CALLERS
        else:
            summaries, most = self._summaries, MAX_SUMMARIES
        known = summaries.get(key)
        if known is None and len(summaries) >= most:
            several = replace(entry.actor, subject=SEVERAL, on_behalf_of="", address=SEVERAL)
            entry = replace(entry, actor=several)
            key = (entry.event, entry.outcome, several)
            known = summaries.get(key)
        if known is None:
            summaries[key] = _Growing(entry, now, folded=True)
        else:
            known.add(entry)


def _of_stranger(entry: AuditEntry) -> bool:
    """Whether the refused caller is unknown, here or at a bridge that reports it, or an agent."""
    refused = entry.outcome is AuditOutcome.REFUSED or (
        entry.event is AuditEvent.AGENT_ENROLLED and entry.outcome is AuditOutcome.FAILED
    )
    actor = entry.actor
    at_a_bridge = actor.kind == "service" and not actor.on_behalf_of and "via" in entry.details
    return refused and (actor.kind in ("unknown", "agent") or at_a_bridge)
