from __future__ import annotations

from pathlib import Path

import pytest

from distributor.settings.loading import GROUPS
from scripts import settings_table
from scripts.settings_table import BEGIN, END, main, with_tables

PAGE = f"# Page\n{BEGIN}\nold\n{END}\nafter\n"


def test_only_what_stands_between_the_markers_changes() -> None:
    page = with_tables(PAGE)
    assert page.startswith(f"# Page\n{BEGIN}\n### `[server]`")
    assert page.endswith(f"{END}\nafter\n")
    assert "\nold\n" not in page
    assert with_tables(page) == page


def test_every_setting_has_a_row() -> None:
    page = with_tables(PAGE)
    assert page.count("\n| `") == sum(len(group.model_fields) for group in GROUPS)
    assert "| `batch_size` | `20` | 1 to 20 |" in page
    assert "| `stop_grace` | `5` | 0 to 3,600 |" in page
    assert "| `queue_full` | `refuse` | `refuse`, `drop` |" in page
    assert "| `valkey_url` | empty |" in page


def test_a_page_without_markers() -> None:
    with pytest.raises(SystemExit, match="must hold the markers"):
        with_tables("# Page\n")


def test_check_fails_until_it_was_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "operations.md"
    page.write_text(PAGE)
    monkeypatch.setattr(settings_table, "PAGE", page)
    monkeypatch.setattr("sys.argv", ["settings_table", "--check"])
    assert main() == 1
    assert "run make docs" in capsys.readouterr().err
    assert page.read_text() == PAGE
    monkeypatch.setattr("sys.argv", ["settings_table"])
    assert main() == 0
    monkeypatch.setattr("sys.argv", ["settings_table", "--check"])
    assert main() == 0
