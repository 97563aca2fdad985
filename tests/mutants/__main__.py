"""Makes each mutation in a copy of the tree and runs its test: `python -m tests.mutants [--only PART]`."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.mutants.catalogue import MUTATIONS
from tests.mutants.mutation import DoesNotApply, Mutation, apply

ROOT: Final = Path(__file__).resolve().parents[2]
PASSED, FAILED = 0, 1
"""Exit codes of pytest. All others mean that the test did not run."""
TIMEOUT_SECONDS: Final = 240


def main() -> int:
    """Run the selected mutations; exit code 1 unless each of them fails its test."""
    parser = argparse.ArgumentParser(prog="make mutants", description="Breaks the source and expects a test to fail.")
    parser.add_argument("--only", default="", help="mutations whose name contains this")
    options = parser.parse_args()
    chosen = [mutation for mutation in MUTATIONS if options.only in mutation.name]
    width = max((len(mutation.name) for mutation in chosen), default=0)
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        original = copied_tree(Path(folder) / "original")
        code = run_tests(original, sorted({mutation.test for mutation in chosen}))
        if code != PASSED:
            print("the tests must pass before the source is broken")
            return 1
        verdicts = []
        for mutation in chosen:
            begun = time.monotonic()
            verdict = verdict_on(mutation, original, Path(folder) / "mutant")
            verdicts.append(verdict)
            seconds = time.monotonic() - begun
            print(f"{mutation.name.ljust(width)}  {verdict.ljust(14)}  {seconds:4.0f} s  {mutation.test}", flush=True)
    return 0 if verdicts and all(verdict == "killed" for verdict in verdicts) else 1


def verdict_on(mutation: Mutation, original: Path, mutant: Path) -> str:
    """What the test of a mutation says to it."""
    shutil.copytree(original, mutant)
    try:
        apply(mutation, mutant)
        code = run_tests(mutant, [mutation.test])
    except DoesNotApply as error:
        print(error)
        return "DOES NOT APPLY"
    finally:
        shutil.rmtree(mutant)
    return {PASSED: "SURVIVED", FAILED: "killed"}.get(code, f"NOT RUN ({code})")


def copied_tree(target: Path) -> Path:
    """A copy of all files that git tracks or would add."""
    listed = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(listed, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    for name in filter(None, names):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    return target


def run_tests(tree: Path, tests: Sequence[str]) -> int:
    """The exit code of pytest on these tests of a tree; FAILED if they do not end."""
    command = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", *tests]
    environment = {**os.environ, "PYTHONPATH": str(tree), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            command, cwd=tree, env=environment, capture_output=True, text=True, timeout=TIMEOUT_SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        return FAILED
    if done.returncode not in (PASSED, FAILED):
        print(done.stdout[-2_000:], done.stderr[-2_000:])
    return done.returncode


if __name__ == "__main__":
    sys.exit(main())
