"""Decides from history and ledger whether a promise was broken. Knows nothing of servers, agents and clients."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from tests.faults.campaign.accounts import Account, Reading, accounts_of
from tests.faults.campaign.complaints import REPAIRED
from tests.faults.campaign.history import Entry, Kind, digest
from tests.faults.campaign.ledger import RESOLUTION_SECONDS, Line

UNKNOWN_REASONS: Final = frozenset({"outcome_unknown", "agent_lost", "agent_restarted"})
"""Reasons with which a command may fail whose agent was killed while it had the command."""


class Broken(StrEnum):
    """Which promise a violation breaks."""

    LOST = "an acknowledged command did not end"
    TWO_IDS = "one idempotency key has two command ids"
    CHANGED = "a terminal status or result changed"
    STARTED_TOO_OFTEN = "a command was started more often than permitted"
    RAN_AFTER_CANCELLED = "a command ran on after it was cancelled"
    UNREADABLE = "an ended command cannot be read"
    UNTRUE_RESULT = "a completed command did not run to its end"
    REFUSED_FOR_NOTHING = "a command was refused that could have been stored"
    FAILED_FOR_NOTHING = "a command failed although its agent could run it"
    WAITED = "a command waited too long for its start"
    SLOW_RECOVERY = "an agent ran no command for too long after the fault"
    OUT_OF_ORDER = "commands of equal priority started out of order"
    COMPLAINED = "a log has what it must not have"
    OUTPUT_WRONG = "output is missing, repeated or altered without a mark"


class Violation(NamedTuple):
    """One broken promise, and the command that shows it; or the server, agent or fault."""

    broken: Broken
    token: str
    text: str


@dataclass(frozen=True, slots=True)
class Rules:
    """What is permitted in the run that is checked.

    `excused` are further reasons for which a command may fail: those that a fault brings about by itself.
    """

    permitted_starts: int = 1
    excused: frozenset[str] = field(default_factory=frozenset)
    refusals: frozenset[str] = frozenset()
    """Codes of errors with which a command may be refused."""
    most_wait_seconds: float = float("inf")
    """How long a command may wait for its start once it is acknowledged."""
    in_order: bool = True
    """Whether each agent runs one command at a time, so that starts show the order of delivery."""
    whole_output: bool = True
    """Whether output must be whole: every command fits into what is retained."""
    repairs: bool = False
    """Whether servers may have to repair the store."""


Check = Callable[[Account, Rules], Iterator[tuple[Broken, str]]]


def check(entries: Iterable[Entry], lines: Sequence[Line], rules: Rules) -> list[Violation]:
    """All violations, by command."""
    entries = list(entries)
    accounts = accounts_of(entries, lines)
    deaths = [entry for entry in entries if entry.kind is Kind.AGENT_DIED]
    violations = [
        Violation(broken, account.token, text)
        for account in accounts.values()
        for one in _CHECKS
        for broken, text in one(account, rules)
    ]
    for account in accounts.values():
        violations += _failed_for_nothing(
            account, rules, [death.time for death in deaths if death.token == account.agent]
        )
    if rules.in_order:
        violations += _out_of_order(accounts.values())
    violations += _complaints(entries, rules)
    return violations


def _complaints(entries: Iterable[Entry], rules: Rules) -> Iterator[Violation]:
    for entry in entries:
        if entry.kind is Kind.COMPLAINT and not (rules.repairs and entry.details["sign"] == REPAIRED):
            yield Violation(Broken.COMPLAINED, entry.token, str(entry.details["text"]))


def _lost(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    if account.acknowledged and account.end is None:
        last = account.seen[-1].status if account.seen else "nothing"
        yield Broken.LOST, f"acknowledged, and last seen as {last}"
    ids = {entry.details["command_id"] for entry in account.acknowledged}
    if len(ids) > 1:
        yield Broken.TWO_IDS, f"acknowledged as {', '.join(sorted(ids))}"


def _refused(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    for entry in account.refused:
        if entry.details["code"] not in rules.refusals:
            yield Broken.REFUSED_FOR_NOTHING, str(entry.details["error"])


def _changed(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    ends = list(dict.fromkeys((seen.status, seen.reason) for seen in account.seen if seen.terminal))
    if len(ends) > 1:
        yield Broken.CHANGED, " then ".join(f"{status} ({reason})" for status, reason in ends)
    end = account.end
    for seen in account.seen:
        if end and not seen.terminal and seen.since is not None and seen.since > end.time:
            yield Broken.CHANGED, f"{end.status}, and {seen.status} when {seen.by} read it later"
    results = list(dict.fromkeys(str(entry.details["result"]) for entry in account.results))
    if len(results) > 1:
        yield Broken.CHANGED, " then ".join(results)


def _started_too_often(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    starts = account.starts
    # A run that failed permits another, if the command was queued with so many.
    if len(starts) > rules.permitted_starts + min(account.failures, account.work.failures):
        times = ", ".join(f"{start.time:.2f} (pid {start.pid})" for start in starts)
        yield Broken.STARTED_TOO_OFTEN, f"{len(starts)} starts: {times}"


def _ran_after_cancelled(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    end = account.end
    if end is None or end.status != "cancelled":
        return
    later = [line for line in account.lines if line.time > end.time + RESOLUTION_SECONDS]
    if later:
        seconds = later[-1].time - end.time
        yield Broken.RAN_AFTER_CANCELLED, f"seen as cancelled {seconds:.2f} s before its last '{later[-1].mark}'"


def _unreadable(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    for entry in account.unreadable[:1]:
        yield Broken.UNREADABLE, str(entry.details["error"])


def _untrue_result(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    if account.end and account.end.status == "completed" and account.witnessed and not account.ran_to_its_end:
        yield Broken.UNTRUE_RESULT, f"completed, but its program noted {[line.mark.value for line in account.lines]}"


def _waited(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    if account.starts and account.acknowledged:
        seconds = account.starts[0].time - account.acknowledged[0].time
        if seconds > rules.most_wait_seconds:
            yield Broken.WAITED, f"started {seconds:.1f} s after it was acknowledged"


def _output_wrong(account: Account, rules: Rules) -> Iterator[tuple[Broken, str]]:
    expected = account.work.output(account.token) if account.readings else b""
    completed = account.end is not None and account.end.status == "completed"
    for reader, reading in account.readings.items():
        fault = _fault_of(reading, expected, whole=completed and rules.whole_output)
        if fault:
            yield Broken.OUTPUT_WRONG, f"{reader} saw {fault}"


def _fault_of(reading: Reading, expected: bytes, whole: bool) -> str:
    """What is wrong with what a reader saw, empty if nothing is."""
    at = 0
    marked = dict(reading.gaps)
    for piece in reading.pieces:
        while at in marked:
            at = marked.pop(at)
        if piece.offset != at:
            return f"offset {piece.offset} where {at} was due"
        if piece.digest != digest(expected[at : at + piece.size]):
            return f"other bytes than were printed at {at}"
        at += piece.size
    while at in marked:
        at = marked.pop(at)
    if reading.ended and whole and at != len(expected):
        return f"{at} of {len(expected)} bytes"
    if reading.ended and whole and reading.gaps:
        return f"gaps {reading.gaps} in output that fits into what is retained"
    return ""


_CHECKS: Final[tuple[Check, ...]] = (
    _lost,
    _refused,
    _changed,
    _started_too_often,
    _ran_after_cancelled,
    _unreadable,
    _untrue_result,
    _waited,
    _output_wrong,
)


def _failed_for_nothing(account: Account, rules: Rules, deaths: Sequence[float]) -> Iterator[Violation]:
    """A command that nobody cancelled must complete, unless its agent died when it may have had it."""
    end = account.end
    if end is None or end.status == "completed" or end.reason in rules.excused:
        return
    if account.cancels and (end.status == "cancelled" or (end.reason == "exit_nonzero" and account.failures)):
        return
    died_with_it = any(account.asked.time <= death <= end.time and not _waited_at(account, death) for death in deaths)
    if died_with_it and end.reason in UNKNOWN_REASONS:
        return
    ran = "ran to its end" if account.ran_to_its_end else "started" if account.starts else "never started"
    yield Violation(Broken.FAILED_FOR_NOTHING, account.token, f"{end.status} ({end.reason}), and its program {ran}")


def _waited_at(account: Account, death: float) -> bool:
    """Whether the command was never given out before its agent died: a read that began afterwards shows it.

    A watch does not: it may tell late.
    """
    return any(
        seen.status == "queued" and seen.attempt == 0 and seen.since is not None and seen.since >= death
        for seen in account.seen
    )


def _out_of_order(accounts: Iterable[Account]) -> Iterator[Violation]:
    """Of two commands of an agent, one acknowledged before the other was asked for, the former starts first.

    A redelivered command keeps its rank, but others may start while it waits: it is left out.
    """
    lanes: dict[tuple[str, int], list[Account]] = defaultdict(list)
    for account in accounts:
        if account.starts and len(account.acknowledged) == 1 and max(seen.attempt for seen in account.seen) <= 1:
            lanes[account.agent, int(account.asked.details["priority"])].append(account)
    for lane in lanes.values():
        lane.sort(key=lambda account: account.starts[0].time)
        for place, later in enumerate(lane):
            for earlier in lane[:place]:
                overtook = later.acknowledged[0].time < earlier.asked.time
                if overtook and earlier.starts[0].time + RESOLUTION_SECONDS < later.starts[0].time:
                    text = f"queued before {earlier.token}, and started after it"
                    yield Violation(Broken.OUT_OF_ORDER, later.token, text)
                    break
