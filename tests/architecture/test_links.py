"""Links of the documents lead somewhere: the file exists, and so does the heading in it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from tests.support.source_tree import ROOT, documents

DOCUMENTS: Final = documents()


def prose(path: Path) -> str:
    """A document without its code blocks."""
    return re.sub(r"^ *```.*?^ *```$", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchor(heading: str) -> str:
    """What GitHub makes of a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def anchors(path: Path) -> set[str]:
    """What GitHub makes of the headings of a document."""
    headings = re.findall(r"^#+ (.*)$", prose(path), re.MULTILINE)
    slugs = [anchor(heading) for heading in headings]
    return {f"{slug}-{earlier}" if (earlier := slugs[:place].count(slug)) else slug for place, slug in enumerate(slugs)}


def local_links(path: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(path)):
        if "://" not in target:
            yield target


def leads_nowhere(path: Path, target: str) -> bool:
    name, _, anchor = target.partition("#")
    file = (path.parent / name).resolve() if name else path
    if not file.exists() or not file.is_relative_to(ROOT):
        return True
    return bool(anchor) and anchor not in anchors(file)


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_somewhere(path: Path) -> None:
    assert not [target for target in local_links(path) if leads_nowhere(path, target)]


def test_links_are_found_and_those_that_lead_nowhere_too() -> None:
    page = ROOT / "docs" / "operations.md"
    assert "#troubleshooting" in list(local_links(page))
    assert not leads_nowhere(page, "dashboards.md#dashboardconnect")
    assert leads_nowhere(page, "dashboards.md#dashboardconnected")
    assert leads_nowhere(page, "dashboard.md")


@pytest.mark.parametrize("path", [path for path in DOCUMENTS if path.parent.name == "docs"], ids=lambda path: path.name)
def test_a_list_of_contents_has_every_chapter_in_order(path: Path) -> None:
    before, _, _ = prose(path).partition("\n## ")
    listed = re.findall(r"\]\(#([^)]+)\)", before)
    chapters = [anchor(heading) for heading in re.findall(r"^## (.*)$", prose(path), re.MULTILINE)]
    assert not listed or listed == chapters
