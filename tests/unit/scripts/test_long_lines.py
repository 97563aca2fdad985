from __future__ import annotations

from pathlib import Path

import pytest

from scripts import long_lines as script
from scripts.long_lines import MOST, documents, long_lines, main

LONG = "a " + "x" * (MOST - 1)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("x" * MOST, []),
        (f"short\n{LONG}", [(2, MOST + 1)]),
        (f"| {LONG} |", []),
        (f"- {'x' * MOST}", []),
        (f"```\n{LONG}\n```\n{LONG}", [(4, MOST + 1)]),
        (f"- a list\n\n  ```json\n  {LONG}\n  ```\n  {LONG}", [(6, MOST + 3)]),
    ],
)
def test_only_prose_has_a_limit(text: str, found: list[tuple[int, int]]) -> None:
    assert list(long_lines(text)) == found


def test_every_document_is_looked_at() -> None:
    names = {path.name for path in documents()}
    assert {"README.md", "CONTRIBUTING.md", "operations.md", "0001-record-decisions.md"} <= names


@pytest.mark.parametrize("name", ["docs/page.md", "distributor/page/js/views/page.js"])
def test_a_long_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    page = tmp_path / name
    page.parent.mkdir(parents=True)
    page.write_text(f"# Page\n\n{LONG}\n")
    assert main() == 1
    assert capsys.readouterr().err == f"{name}:3: {MOST + 1} characters, the limit is {MOST}\n"
    page.write_text("# Page\n")
    assert main() == 0
