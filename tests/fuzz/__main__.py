"""Fuzzes a running system: `python -m tests.fuzz [--seed N] [--seconds S] [--only TARGET]`."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.fuzz.campaign import campaign


def main() -> int:
    """Fuzz; exit code 1 if anything is wrong."""
    parser = argparse.ArgumentParser(prog="make fuzz", description="Sends every way in what it does not expect.")
    parser.add_argument("--seed", type=int, default=random.randrange(2**31), help="repeats the cases of a run")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to fuzz")
    parser.add_argument("--only", default="", help="targets whose name contains this")
    options = parser.parse_args()
    print(f"seed {options.seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        findings = asyncio.run(campaign(options.seed, options.seconds, options.only, Path(folder)))
    for name, count in sorted(findings.attempts.items()):
        print(f"{name}: {count:,} attempts")
    print(*findings.figures, sep="\n")
    for complaint in findings.complaints:
        print(f"FAULT {complaint}")
    print(f"seed {options.seed}: {len(findings.complaints)} faults" if findings.complaints else "no faults")
    return 1 if findings.complaints else 0


if __name__ == "__main__":
    sys.exit(main())
