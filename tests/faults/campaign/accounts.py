"""All that a campaign knows of each command: its part of the history, and its part of the ledger."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

from tests.faults.campaign.history import Entry, Kind
from tests.faults.campaign.ledger import Line, Mark, Work

TERMINAL: Final = frozenset({"completed", "failed", "timeout", "cancelled"})


class Seen(NamedTuple):
    """A state that somebody saw. `since`: when the read began, None for a watch."""

    time: float
    status: str
    reason: str
    attempt: int
    by: str
    since: float | None = None

    @property
    def terminal(self) -> bool:
        """Whether it is the end of the command."""
        return self.status in TERMINAL


class Piece(NamedTuple):
    """Output that a reader saw."""

    offset: int
    size: int
    digest: str


@dataclass
class Reading:
    """What one reader saw of the output, in order: pieces and gaps."""

    pieces: list[Piece] = field(default_factory=list)
    gaps: list[tuple[int, int]] = field(default_factory=list)
    ended: bool = False


@dataclass
class Account:
    """One command. `asked` is the entry with which it begins."""

    token: str
    asked: Entry
    entries: list[Entry] = field(default_factory=list)
    acknowledged: list[Entry] = field(default_factory=list)
    refused: list[Entry] = field(default_factory=list)
    cancels: list[float] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    results: list[Entry] = field(default_factory=list)
    unreadable: list[Entry] = field(default_factory=list)
    readings: dict[str, Reading] = field(default_factory=dict)
    lines: list[Line] = field(default_factory=list)

    @property
    def agent(self) -> str:
        """The agent that is to run it."""
        return str(self.asked.details["agent"])

    @property
    def witnessed(self) -> bool:
        """Whether it runs a program that writes to the ledger."""
        return self.asked.details["work"] is not None

    @property
    def work(self) -> Work:
        """What its program does, if it runs one."""
        return Work(**(self.asked.details["work"] or {}))

    @property
    def starts(self) -> list[Line]:
        """Each time its program started."""
        return [line for line in self.lines if line.mark is Mark.START]

    @property
    def failures(self) -> int:
        """How often its program failed on purpose."""
        return sum(line.mark is Mark.FAILED for line in self.lines)

    @property
    def ran_to_its_end(self) -> bool:
        """Whether its program said that it had done all its work."""
        return any(line.mark is Mark.END for line in self.lines)

    @property
    def end(self) -> Seen | None:
        """The first sight of a terminal status."""
        return next((seen for seen in self.seen if seen.terminal), None)


def accounts_of(entries: Iterable[Entry], lines: Sequence[Line]) -> dict[str, Account]:
    """The account of each command that was asked for, by token."""
    accounts: dict[str, Account] = {}
    for entry in entries:
        if entry.kind is Kind.ASKED:
            accounts.setdefault(entry.token, Account(entry.token, entry))
        account = accounts.get(entry.token)
        if account is not None:
            account.entries.append(entry)
            _enter(account, entry)
    for line in lines:
        if line.token in accounts:
            accounts[line.token].lines.append(line)
    return accounts


def _enter(account: Account, entry: Entry) -> None:
    details: Mapping[str, Any] = entry.details
    match entry.kind:
        case Kind.ACKNOWLEDGED:
            account.acknowledged.append(entry)
        case Kind.REFUSED:
            account.refused.append(entry)
        case Kind.CANCEL:
            account.cancels.append(entry.time)
        case Kind.STATE:
            account.seen.append(Seen(entry.time, *(details[name] for name in Seen._fields[1:])))
        case Kind.RESULT:
            account.results.append(entry)
        case Kind.UNREADABLE:
            account.unreadable.append(entry)
        case Kind.OUTPUT:
            piece = Piece(details["offset"], details["size"], details["digest"])
            account.readings.setdefault(details["reader"], Reading()).pieces.append(piece)
        case Kind.GAP:
            gap = (details["offset"], details["end"])
            account.readings.setdefault(details["reader"], Reading()).gaps.append(gap)
        case Kind.READER_ENDED:
            account.readings.setdefault(details["reader"], Reading()).ended = True
        case _:
            pass
