"""Plays scenarios of the conformance kit against an agent."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Final

from distributor.conformance.catalogue import SCENARIOS
from distributor.conformance.scenario import Scenario
from distributor.conformance.scenario_run import KitOptions, run_scenarios
from distributor.conformance.score import Score, Verdict
from tests.support.source_tree import ROOT
from tests.support.waiting import PATIENCE_SECONDS

PYTHON_AGENT: Final = (sys.executable, str(ROOT / "examples" / "conformance_agent.py"), "--server={address}")
JOURNAL: Final = "--journal={journal}"

ORPHANED: Final = next(one for one in SCENARIOS if one.name == "orphaned")
NEEDS_OPTION: Final = ("no orphan_after",)
"""Why the agents skip a scenario that is played with an option of its own."""


async def scores(scenarios: Sequence[Scenario], *program: str, patience: float = PATIENCE_SECONDS) -> list[Score]:
    """The scores of an agent, started for each scenario."""
    options = KitOptions(program=program, patience=patience)
    return await run_scenarios(scenarios, options, lambda score: None)


def shortcomings(scored: Sequence[Score], allowed: Collection[str] = ()) -> list[str]:
    """What was not passed, in words, but for scenarios skipped for a reason in `allowed`."""
    return [
        f"{score.scenario.name} {score.verdict}: expected {score.expected} came: {score.came}"
        for score in scored
        if score.verdict is not Verdict.PASSED
        if not (score.verdict is Verdict.SKIPPED and score.came in allowed)
    ]


def node_program(packages: Path, folder: Path) -> tuple[str, ...]:
    """The command line of the agent in a folder."""
    agent = str(folder / "agent.js")
    variables = (f"NODE_PATH={packages}", f"DISTRIBUTOR_PROTO={ROOT / 'proto'}")
    return ("env", *variables, "node", agent, "--server={address}", "--journal={journal}")
