from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from distributor.settings.loading import GROUPS
from scripts import generated_docs
from scripts.generated_docs import (
    DOCS,
    FUNCTIONS,
    PACKAGE,
    PAGE_SCRIPTS,
    functions,
    main,
    page_scripts,
    summary,
    with_parts,
)

BEGIN = "<!-- settings:begin -->"
END = "<!-- settings:end -->"
PAGE = f"# Page\n{BEGIN}\nold\n{END}\nafter\n"


def fresh(page: str) -> str:
    return with_parts((DOCS / page).read_text(), page)


def first_sentence(tmp_path: Path, docstring: str) -> str:
    module = tmp_path / "module.py"
    module.write_text(f'"""{docstring}"""\n')
    return summary(module)


def test_only_what_stands_between_the_markers_changes() -> None:
    page = with_parts(PAGE, "operations.md")
    assert page.startswith(f"# Page\n{BEGIN}\n### `[server]`")
    assert page.endswith(f"{END}\nafter\n")
    assert "\nold\n" not in page
    assert with_parts(page, "operations.md") == page


def test_every_setting_has_a_row() -> None:
    page = with_parts(PAGE, "operations.md")
    assert page.count("\n| `") == sum(len(group.model_fields) for group in GROUPS)
    assert "| `batch_size` | `20` | 1 to 20 |" in page
    assert "| `stop_grace` | `5` | 0 to 3,600 |" in page
    assert "| `queue_full` | `refuse` | `refuse`, `drop` |" in page
    assert "| `valkey_url` | empty |" in page


def test_every_module_that_people_wrote_has_a_row_under_its_layer() -> None:
    page = fresh("architecture.md").partition("<!-- files:begin -->")[2]
    for path in PACKAGE.rglob("*.py"):
        *folders, name = path.relative_to(PACKAGE).parts
        if folders == ["v1"] or (name == "__init__.py" and len(folders) < 2):
            continue
        section = page.partition(f"### {folders[0] if folders else 'At the top'}\n")[2].partition("\n### ")[0]
        row = "/".join([*folders[1:], name]).removesuffix("__init__.py")
        assert f"| `{row}` | " in section, path


def test_every_script_of_the_page_has_a_row() -> None:
    page = fresh("page.md")
    for path in PAGE_SCRIPTS.rglob("*.js"):
        assert f"| `{path.relative_to(PAGE_SCRIPTS)}` | " in page, path
    assert "| `main.js` | Starts the page |" in page
    assert (
        "| `strict_elements.js` | Makes xterm.js work under a Content-Security-Policy without 'unsafe-inline' |" in page
    )


def test_a_script_without_a_comment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "quiet.js").write_text("const x = 1;\n/** Late. */\n")
    monkeypatch.setattr(generated_docs, "PAGE_SCRIPTS", tmp_path)
    with pytest.raises(SystemExit, match=r"quiet\.js must begin with a comment"):
        list(page_scripts())


def test_every_store_function_has_a_row() -> None:
    page = fresh("architecture.md")
    for path in FUNCTIONS.glob("*.lua"):
        assert (f"| `{path.stem}` | " in page) is not path.name.startswith("_"), path
    assert "| `enqueue` | store commands and make them ready for their agents | refused |" in page
    assert (
        "| `claim` | assign queued commands to attached agents, by rank, each under a lease; "
        "control commands first | goes on |" in page
    )
    assert "| `list_commands` | one page of commands, newest first | reads only |" in page


def test_a_purpose_over_two_lines_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "sweep.lua").write_text(
        "-- Purpose: take what is over\n--          out of the indexes. It goes by itself.\n-- KEYS none\n"
        "register('sweep', sweep, {'allow-oom'})\n"
    )
    monkeypatch.setattr(generated_docs, "FUNCTIONS", tmp_path)
    assert list(functions())[2:] == ["| `sweep` | take what is over out of the indexes | goes on |"]


@pytest.mark.parametrize(
    ("docstring", "sentence"),
    [
        ("One thing.", "One thing"),
        ("One thing. Another.", "One thing"),
        ("One thing. docs/page.md has more.", "One thing"),
        ("One thing,\nover two lines.\n\nAnother.", "One thing, over two lines"),
        ("Is it there?", "Is it there?"),
        ("Of version 1.0 | a bar.", "Of version 1.0 \\| a bar"),
    ],
)
def test_the_first_sentence_of_a_docstring(tmp_path: Path, docstring: str, sentence: str) -> None:
    assert first_sentence(tmp_path, docstring) == sentence


def test_a_module_without_a_docstring(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_text("x = 1\n")
    with pytest.raises(SystemExit, match=r"module\.py must begin with a docstring"):
        summary(module)


def test_a_page_without_markers() -> None:
    with pytest.raises(SystemExit, match="must contain the markers"):
        with_parts("# Page\n", "operations.md")


@pytest.mark.parametrize(
    ("page", "row"),
    [("operations.md", "| `batch_size` |"), ("architecture.md", "| `keys.py` |"), ("architecture.md", "| `probe` |")],
)
def test_check_fails_until_it_was_written(
    page: str, row: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(DOCS, tmp_path / "docs")
    stale = tmp_path / "docs" / page
    text = stale.read_text().replace(row, f"{row} old")
    stale.write_text(text)
    monkeypatch.setattr(generated_docs, "DOCS", tmp_path / "docs")
    monkeypatch.setattr("sys.argv", ["generated_docs", "--check"])
    assert main() == 1
    assert f"{page} is out of date: run make docs" in capsys.readouterr().err
    assert stale.read_text() == text
    monkeypatch.setattr("sys.argv", ["generated_docs"])
    assert main() == 0
    assert stale.read_text() == (DOCS / page).read_text()
    monkeypatch.setattr("sys.argv", ["generated_docs", "--check"])
    assert main() == 0
