"""Runs the campaign: `python -m tests.faults.campaign [--seed N] [--only PART] [--times N] [--keep FOLDER]`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from itertools import groupby
from pathlib import Path

from tests.faults.campaign.catalogue import all_faults
from tests.faults.campaign.ledger import now
from tests.faults.campaign.nemesis import Outcome, run_fault
from tests.faults.campaign.report import details, duration, table
from tests.faults.campaign.world import world


def main() -> int:
    """Run the selected faults; exit code 1 if a promise was broken, or a fault did not bite."""
    parser = argparse.ArgumentParser(prog="make faults", description="Injects faults and checks every promise.")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="repeats the choices of a run")
    parser.add_argument("--only", default="", help="faults whose name contains this")
    parser.add_argument("--times", type=int, default=0, help="how often to inject each, instead of its own number")
    parser.add_argument("--keep", type=Path, help="folder for histories, ledgers and logs")
    options = parser.parse_args()
    begun = now()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="faults-") as temporary:
        folder = options.keep or Path(temporary)
        folder.mkdir(parents=True, exist_ok=True)
        outcomes = asyncio.run(campaign(options, folder))
    print(table(outcomes))
    print(f"seed {options.seed}, {duration(now() - begun)} in all")
    return 0 if outcomes and all(outcome.passed for outcome in outcomes) else 1


async def campaign(options: argparse.Namespace, folder: Path) -> list[Outcome]:
    """Run the faults, those that agree on the plan in one world."""
    outcomes: list[Outcome] = []
    chosen = [fault for fault in all_faults() if options.only in fault.name]
    for number, (plan, faults) in enumerate(groupby(chosen, key=lambda fault: fault.plan)):
        waiting = list(faults)
        while waiting:
            place = folder / f"world{number}-{len(waiting)}"
            place.mkdir()
            async with world(plan, place) as made:
                while waiting:
                    fault = waiting.pop(0)
                    outcome = await run_fault(made, fault, options.seed, options.times or fault.times)
                    outcomes.append(outcome)
                    mark = "ok" if outcome.passed else outcome.invalid or f"{len(outcome.violations)} violations"
                    print(f"{outcome.fault}: {mark}, recovery {outcome.recovery_seconds:.1f} s", flush=True)
                    if not outcome.passed:
                        print(details(outcome), flush=True)
                        # What one fault left behind must not be blamed on the next.
                        break
    return outcomes


if __name__ == "__main__":
    sys.exit(main())
