"""Each scenario of the conformance kit tests a rule that the protocol's page states."""

from __future__ import annotations

import re

from distributor.conformance.catalogue import SCENARIOS
from tests.support.source_tree import ROOT


def test_each_rule_is_a_chapter_of_the_protocol() -> None:
    page = (ROOT / "docs" / "protocol.md").read_text(encoding="utf-8")
    chapters = set(re.findall(r"^### (.*)$", page, re.MULTILINE))
    assert {one.rule for one in SCENARIOS} <= chapters


def test_each_scenario_has_a_name_of_its_own_and_says_what_it_expects() -> None:
    names = [one.name for one in SCENARIOS]
    assert len(names) == len(set(names))
    assert not [one.name for one in SCENARIOS if not one.expected.endswith(".")]
