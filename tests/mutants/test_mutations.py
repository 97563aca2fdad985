"""Every mutation fits the source as it is, and names a test that exists. `make mutants` runs them."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.mutants.catalogue import MUTATIONS
from tests.mutants.mutation import DoesNotApply, Edit, Mutation, apply
from tests.support.source_tree import ROOT


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_it_fits_the_source(mutation: Mutation, tmp_path: Path) -> None:
    for path in {edit.path for edit in mutation.edits}:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_bytes((ROOT / path).read_bytes())
    apply(mutation, tmp_path)
    for path in {edit.path for edit in mutation.edits}:
        changed = (tmp_path / path).read_text(encoding="utf-8")
        assert changed != (ROOT / path).read_text(encoding="utf-8")
        if path.endswith(".py"):
            ast.parse(changed)


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_its_test_exists(mutation: Mutation) -> None:
    path, _, name = mutation.test.partition("::")
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    assert name in {node.name for node in tree.body if isinstance(node, functions)}


@pytest.mark.parametrize("source", ["", "one one"])
def test_text_that_is_not_there_once_is_an_error_and_changes_nothing(source: str, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("first")
    (tmp_path / "b").write_text(source)
    with pytest.raises(DoesNotApply, match="mutation: b has the text to replace"):
        apply(Mutation("mutation", (Edit("a", "first", "changed"), Edit("b", "one", "two")), ""), tmp_path)
    assert (tmp_path / "a").read_text() == "first"
