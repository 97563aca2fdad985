"""Every kind of audit row is produced by a running server in some test."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from distributor.model.audit_entry import CODES, AuditEvent

INTEGRATION: Final = Path(__file__).parents[1] / "integration"


def kinds_expected(tree: ast.AST) -> Iterator[str]:
    """The kinds that a test expects: those it names, but for entries that it makes by itself."""
    made = {
        id(node)
        for call in ast.walk(tree)
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "AuditEntry"
        for argument in [*call.args, *(keyword.value for keyword in call.keywords)]
        for node in ast.walk(argument)
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "AuditEvent" and id(node) not in made:
            yield node.attr


def test_each_kind_is_expected_by_an_integration_test() -> None:
    trees = [ast.parse(path.read_text()) for path in sorted(INTEGRATION.rglob("test_*.py"))]
    expected = {name for tree in trees for name in kinds_expected(tree)}
    assert {event.name for event in AuditEvent} - expected == set()


def test_entries_that_a_test_makes_do_not_count() -> None:
    tree = ast.parse("add(AuditEntry(AuditEvent.GAP))\nassert row.event is AuditEvent.PRUNED")
    assert list(kinds_expected(tree)) == ["PRUNED"]


def test_each_kind_has_a_code_of_its_own() -> None:
    assert set(CODES) == set(AuditEvent)
    assert len(set(CODES.values())) == len(CODES)
