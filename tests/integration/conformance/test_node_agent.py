"""An agent that shares no code with ours keeps to every rule, too."""

from __future__ import annotations

import pytest

from distributor.conformance.catalogue import CHAPTERS
from tests.support.conformance import NEEDS_OPTION, ORPHANED, scores, shortcomings


@pytest.mark.parametrize("chapter", CHAPTERS)
async def test_the_agent_passes_every_scenario(chapter: str, node_agent: tuple[str, ...]) -> None:
    assert not shortcomings(await scores(CHAPTERS[chapter], *node_agent), NEEDS_OPTION)


async def test_the_agent_stops_its_work_when_orphaned(node_agent: tuple[str, ...]) -> None:
    assert not shortcomings(await scores([ORPHANED], *node_agent, "--orphan-after=3"))
