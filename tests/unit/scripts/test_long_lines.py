from __future__ import annotations

from pathlib import Path

import pytest

from scripts import long_lines as script
from scripts.long_lines import MAX_COLUMNS, SOURCES, long_lines, main, sources

LONG = "a " + "x" * (MAX_COLUMNS - 1)


@pytest.mark.parametrize(("text", "found"), [("x" * MAX_COLUMNS, []), (f"short\n{LONG}", [(2, MAX_COLUMNS + 1)])])
def test_a_line_has_a_limit(text: str, found: list[tuple[int, int]]) -> None:
    assert list(long_lines(text)) == found


def test_every_pattern_finds_sources() -> None:
    assert {"main.js", "router.js", "_shared.lua", "agent_gateway.proto"} <= {path.name for path in sources()}
    for pattern in SOURCES:
        assert any(script.ROOT.glob(pattern)), pattern


@pytest.mark.parametrize("name", ["distributor/page/js/views/page.js", "distributor/store/functions/claim.lua"])
def test_a_long_line_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    monkeypatch.setattr(script, "ROOT", tmp_path)
    page = tmp_path / name
    page.parent.mkdir(parents=True)
    page.write_text(f"// Page\n\n{LONG}\n")
    assert main() == 1
    assert capsys.readouterr().err == f"{name}:3: {MAX_COLUMNS + 1} characters, the limit is {MAX_COLUMNS}\n"
    page.write_text("// Page\n")
    assert main() == 0
