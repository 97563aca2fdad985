"""Holds docs/guarantees.md: each promise names code that enforces it and tests that would notice, and both exist."""

from __future__ import annotations

import ast
import re

import pytest

from tests.support.source_tree import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")
PROMISES = re.findall(r"^## (G\d+) .*\n((?:(?!## ).*\n?)*)", PAGE, re.MULTILINE)
NUMBERS = [f"G{number}" for number in range(1, 9)]


def names_defined_in(source: str) -> set[str]:
    """Functions, classes and constants at the top of a module."""
    names: set[str] = set()
    for node in ast.parse(source).body:
        match node:
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
                names.add(name)
            case ast.AnnAssign(target=ast.Name(id=name)) | ast.Assign(targets=[ast.Name(id=name)]):
                names.add(name)
    return names


def missing(reference: str) -> bool:
    """Whether `path` or `path::name` is not there."""
    path, _, name = reference.partition("::")
    file = ROOT / path
    return not file.is_file() or (bool(name) and name not in names_defined_in(file.read_text(encoding="utf-8")))


def references(text: str, folder: str) -> list[str]:
    return re.findall(rf"`({folder}/[\w./]+(?:::\w+)?)`", text)


def test_every_promise_is_there_once_and_in_order() -> None:
    assert [number for number, _ in PROMISES] == NUMBERS


def test_the_readme_lists_the_same_promises() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"^\| (G\d+) \|", readme, re.MULTILINE) == NUMBERS


@pytest.mark.parametrize(("number", "text"), PROMISES, ids=[number for number, _ in PROMISES])
def test_a_promise_names_what_enforces_it_and_what_tests_it(number: str, text: str) -> None:
    enforced, tested = text.partition("**Tested by**")[::2]
    code, tests = references(enforced, "distributor"), references(tested, "tests")
    assert code, f"{number} does not say what enforces it"
    assert tests, f"{number} has no test"
    assert all(re.search(r"::test_\w+$", test) for test in tests), f"{number} names a file in place of a test"
    assert not [reference for reference in code + tests if missing(reference)], number
