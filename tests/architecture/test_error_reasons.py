"""Every reason that an error may have is told to those who meet it, and no other is."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from distributor import errors
from tests.support.source_tree import PACKAGE, ROOT, layer, modules

TABLES: Final = (
    ("protocol.md", "### How a stream can end"),
    ("protocol.md", "## Errors"),
    ("dashboards.md", "### `error`"),
    ("dashboards.md", "## The API"),
    ("operations.md", "### A program does not start"),
)
"""Where the reasons are told."""

READ_BY: Final = {
    "bridge": "dashboards.md",
    "client": "protocol.md",
    "dispatch": "protocol.md",
    "model": "protocol.md",
}
"""The page that those read who meet the errors of a layer. Of other layers, any of the three will do."""

TREES: Final = {path: ast.parse(path.read_text(encoding="utf-8")) for path in modules()}
CODES: Final = {kind.code for kind in vars(errors).values() if isinstance(kind, type) and hasattr(kind, "code")}

Function = ast.FunctionDef | ast.AsyncFunctionDef


def section(name: str, heading: str) -> str:
    """The text under a heading of a page."""
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    level = heading.partition(" ")[0]
    return re.split(rf"\n#{{1,{len(level)}}} ", page.partition(f"\n{heading}\n")[2])[0]


def told(pages: set[str]) -> set[str]:
    """The words in capitals that the tables of reasons have."""
    words: set[str] = set()
    for name, heading in TABLES:
        if name in pages:
            rows = "\n".join(re.findall(r"^\|.*", section(name, heading), re.MULTILINE))
            words.update(re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", rows))
    return words


def takers(tree: ast.AST) -> Iterator[tuple[str, Function]]:
    """The functions of a module, and its classes by their constructors."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            yield node.name, node
        elif isinstance(node, ast.ClassDef):
            methods = (child for child in node.body if isinstance(child, Function))
            yield from ((node.name, method) for method in methods if method.name == "__init__")


def places() -> dict[str, set[int]]:
    """At which places among its arguments each function, by its name, takes a reason."""
    found: dict[str, set[int]] = defaultdict(set)
    for tree in TREES.values():
        for name, function in takers(tree):
            arguments = [each.arg for each in function.args.args if each.arg != "self"]
            if "reason" in arguments:
                found[name].add(arguments.index("reason"))
    return found


PLACES: Final = places()


def given(call: ast.Call) -> Iterator[ast.expr]:
    """What a call gives as a reason, by name or in its place."""
    yield from (keyword.value for keyword in call.keywords if keyword.arg == "reason")
    name = getattr(call.func, "id", getattr(call.func, "attr", ""))
    yield from (argument for place, argument in enumerate(call.args) if place in PLACES.get(name, ()))


def assumed(function: Function) -> Iterator[ast.expr]:
    """The reason that a function takes where it is given none."""
    arguments = function.args.args
    for argument, default in zip(reversed(arguments), reversed(function.args.defaults), strict=False):
        if argument.arg == "reason":
            yield default


def reasons(path: Path) -> set[str]:
    """The reasons that a module writes out."""
    return reasons_in(TREES[path])


def reasons_in(tree: ast.AST) -> set[str]:
    """The reasons that a part of a module writes out."""
    nodes = list(ast.walk(tree))
    values = [value for node in nodes if isinstance(node, ast.Call) for value in given(node)]
    values += [value for node in nodes if isinstance(node, Function) for value in assumed(node)]
    words = [value.value for value in values if isinstance(value, ast.Constant) and isinstance(value.value, str)]
    return {word for word in words if word.isupper()}


WITH_REASONS: Final = [path for path in TREES if reasons(path)]


@pytest.mark.parametrize("path", WITH_REASONS, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_a_reason_is_told(path: Path) -> None:
    page = READ_BY.get(layer(path))
    pages = {page} if page else {name for name, _ in TABLES}
    assert reasons(path) <= told(pages), f"not in {' or '.join(sorted(pages))}"


def test_what_is_told_is_a_reason() -> None:
    written = {word for path in WITH_REASONS for word in reasons(path)}
    assert told({name for name, _ in TABLES}) <= written | CODES | {"OK"}


def test_reasons_are_found_however_they_are_given() -> None:
    def of(module: str) -> set[str]:
        return reasons(PACKAGE / module)

    assert "INVALID_AGENT_ID" in of("model/command.py"), "in its place, to a class"
    assert "PRIORITY_OUT_OF_RANGE" in of("model/queueing.py"), "in its place, to a function"
    assert "STORE_FULL" in of("store/valkey_errors.py"), "by name"
    assert "INVALID_FIELD" in of("bridge/message_fields.py"), "as a default"
    assert len({word for path in WITH_REASONS for word in reasons(path)}) > 60


@pytest.mark.parametrize(("name", "heading"), TABLES)
def test_the_tables_are_found(name: str, heading: str) -> None:
    page = (ROOT / "docs" / name).read_text(encoding="utf-8")
    assert page.count(f"\n{heading}\n") == 1
    assert told({name})
