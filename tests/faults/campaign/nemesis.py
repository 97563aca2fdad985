"""Injects a fault under load, heals it, and has everything checked that was noted meanwhile."""

from __future__ import annotations

import asyncio
import random
from dataclasses import dataclass, field

from tests.faults.campaign.accounts import accounts_of
from tests.faults.campaign.checker import Broken, Violation, check
from tests.faults.campaign.fault import Fault
from tests.faults.campaign.history import Entry, Kind, about
from tests.faults.campaign.ledger import now
from tests.faults.campaign.load import Load
from tests.faults.campaign.world import World

WARM_UP_SECONDS = 0.5
"""How long commands come before the first injection, so that it meets some at every stage."""


@dataclass
class Outcome:
    """What a fault came to. `recovery_seconds` is the longest of its injections."""

    fault: str
    injected: int = 0
    bites: list[str] = field(default_factory=list)
    commands: int = 0
    exposed: int = 0
    recovery_seconds: float = 0.0
    violations: list[Violation] = field(default_factory=list)
    histories: dict[str, list[str]] = field(default_factory=dict)
    """The history of each command that shows a violation, as lines."""
    invalid: str = ""
    """Why this run proves nothing."""

    @property
    def passed(self) -> bool:
        """Whether it bit, and broke nothing."""
        return not self.violations and not self.invalid


async def run_fault(world: World, fault: Fault, seed: int, times: int, patience: float = 1.0) -> Outcome:
    """Inject `fault` so many times under load, then check everything.

    A busy machine has `patience` times the bound of a recovery.
    """
    outcome = Outcome(fault.name)
    draw = random.Random(f"{seed} {fault.name}")
    begun, noted_before = now(), len(world.history.entries)
    load = Load(world, draw.randrange(2**32), fault.mix, _prefix(fault, noted_before))
    load.start()
    try:
        for _ in range(times):
            await asyncio.sleep(WARM_UP_SECONDS)
            await _inject_once(world, fault, load, draw, outcome)
    finally:
        await load.stop()
    await load.ended(fault.ends_within_seconds)
    await load.read_again()
    for name, sign, text in world.complaints():
        world.history.note(Kind.COMPLAINT, name, sign=sign, text=text)
    entries = world.history.entries[noted_before:]
    lines = [line for line in world.ledger.lines() if line.time >= begun - 1]
    outcome.violations = check(entries, lines, fault.rules)
    most_seconds = fault.recovers_within_seconds * patience
    if outcome.recovery_seconds > most_seconds:
        text = f"{outcome.recovery_seconds:.1f} s, the bound is {most_seconds:g} s"
        outcome.violations.append(Violation(Broken.SLOW_RECOVERY, fault.name, text))
    for token in {violation.token for violation in outcome.violations}:
        noted = [f"{line.time:.2f} ledger {line.mark} pid {line.pid}" for line in lines if line.token == token]
        outcome.histories[token] = [entry.line() for entry in about(entries, token)] + noted
    outcome.commands = sum(entry.kind is Kind.ASKED for entry in entries)
    outcome.exposed = _exposed(entries)
    _validate(outcome, fault)
    return outcome


async def _inject_once(world: World, fault: Fault, load: Load, draw: random.Random, outcome: Outcome) -> None:
    world.history.note(Kind.FAULT, fault.name)
    outcome.injected += 1
    try:
        bite = await fault.inject(world, load, draw)
    except TimeoutError:
        # It waited for something that did not happen.
        bite = ""
    world.history.note(Kind.HEALED, fault.name)
    if bite:
        outcome.bites.append(bite)
    outcome.recovery_seconds = max(outcome.recovery_seconds, await world.recovery())


def _prefix(fault: Fault, number: int) -> str:
    """What the tokens of its commands begin with: no other run of this world has it."""
    return f"{fault.name.replace(' ', '-')}-{number}"


def _validate(outcome: Outcome, fault: Fault) -> None:
    if len(outcome.bites) < outcome.injected:
        outcome.invalid = f"bit {len(outcome.bites)} of {outcome.injected} times"
    elif fault.exposes and not outcome.exposed:
        outcome.invalid = "exposed no command"


def _exposed(entries: list[Entry]) -> int:
    """How many commands were under way while the fault lasted, at least in part."""
    spans: list[tuple[float, float]] = []
    begun = None
    for entry in entries:
        if entry.kind is Kind.FAULT:
            begun = entry.time
        elif entry.kind is Kind.HEALED and begun is not None:
            spans.append((begun, entry.time))
    exposed = 0
    for account in accounts_of(entries, []).values():
        end = account.end.time if account.end else float("inf")
        exposed += any(account.asked.time < healed and end > begun for begun, healed in spans)
    return exposed
