"""The log lines that operators are told of are those that are written."""

from __future__ import annotations

import re
from typing import Final

import pytest

from tests.support.source_tree import PACKAGE

PAGE: Final = (PACKAGE.parent / "docs" / "operations.md").read_text()
WRITTEN: Final = "\n".join(path.read_text() for path in PACKAGE.rglob("*.py"))


def named() -> list[str]:
    """The first column of the table under Logs."""
    section = PAGE.partition("## Logs")[2].partition("\n## ")[0]
    rows = re.findall(r"^\| (`.*?) \|", section, re.MULTILINE)
    return [line for row in rows for line in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize("line", named())
def test_a_line_that_is_named_is_written(line: str) -> None:
    of_an_outage = f'Outage("{line.removeprefix("cannot ")}")'
    kept = line.removesuffix(" ended, restarting it").removesuffix(" is running again")
    assert any(written in WRITTEN for written in (f'"{line}"', of_an_outage, f'Supervisor("{kept}"'))


def test_the_table_is_found() -> None:
    assert len(named()) > 20
