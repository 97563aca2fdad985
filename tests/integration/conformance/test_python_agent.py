"""Our own agent, as a process, keeps to every rule that the conformance kit tests."""

from __future__ import annotations

import pytest

from distributor.conformance.catalogue import CHAPTERS
from distributor.conformance.scenario import Scenario
from tests.support.conformance import JOURNAL, NEEDS_OPTION, ORPHANED, PYTHON_AGENT, scores, shortcomings


@pytest.mark.parametrize("chapter", CHAPTERS)
async def test_the_agent_passes_every_scenario(chapter: str) -> None:
    scenarios: tuple[Scenario, ...] = CHAPTERS[chapter]
    assert not shortcomings(await scores(scenarios, *PYTHON_AGENT, JOURNAL), NEEDS_OPTION)


async def test_the_agent_stops_its_work_when_orphaned() -> None:
    assert not shortcomings(await scores([ORPHANED], *PYTHON_AGENT, "--orphan-after=3"))


async def test_an_agent_without_a_journal_skips_what_needs_one() -> None:
    scored = await scores(CHAPTERS["journal"], *PYTHON_AGENT)
    assert {(score.verdict, score.came) for score in scored} == {("skipped", "no journal")}
