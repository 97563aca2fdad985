"""Every reason with which the server can end an agent's stream is in the table that agents' authors go by."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from tests.architecture.test_error_reasons import TREES, reasons_in, section
from tests.support.source_tree import PACKAGE

PATTERNS: Final = ("rpc/agent_*.py", "rpc/malformed.py", "rpc/interceptors/errors.py", "store/session_store.py")
"""The modules that serve the stream."""
STORE: Final = PACKAGE / "store" / "valkey_errors.py"
SHARED: Final = ("distributor.dispatch.refusals", "distributor.model.command")
"""Modules from which the stream takes some functions: those that it imports, and no others, can end it."""


def serving() -> list[Path]:
    return [path for pattern in PATTERNS for path in sorted(PACKAGE.glob(pattern))]


def functions(path: Path, names: frozenset[str]) -> Iterator[ast.AST]:
    """The functions of a module that have one of these names."""
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name in names:
            yield node


def imported(module: str) -> frozenset[str]:
    """What the modules that serve the stream import from another."""
    nodes = (node for path in serving() for node in ast.walk(TREES[path]))
    imports = [node for node in nodes if isinstance(node, ast.ImportFrom) and node.module == module]
    return frozenset(alias.name for node in imports for alias in node.names)


def possible() -> set[str]:
    found = {word for path in serving() for word in reasons_in(TREES[path])}
    for module in SHARED:
        path = PACKAGE.parent / Path(*module.split(".")).with_suffix(".py")
        found |= {word for function in functions(path, imported(module)) for word in reasons_in(function)}
    return found | set(reasons_in(TREES[STORE]))


def test_each_reason_is_in_the_table() -> None:
    rows = re.findall(r"^\|.*", section("protocol.md", "### How a stream can end"), re.MULTILINE)
    told = {word for row in rows for word in re.findall(r"`([A-Z]+(?:_[A-Z]+)*)`", row)}
    assert possible() - told == set()


def test_reasons_are_found_wherever_they_come_from() -> None:
    found = possible()
    assert {"TOO_MANY_AGENTS", "NO_HELLO", "PROTOCOL_VIOLATION"} <= found, "the stream itself"
    assert {"INVALID_AGENT_ID", "INVALID_COMMAND_ID", "DRAINING", "SUPERSEDED"} <= found, "functions it imports"
    assert {"AGENT_ID_TAKEN", "STORE_UNAVAILABLE"} <= found, "the store"
    assert not {"VALKEY_EVICTS", "QUEUE_FULL", "INVALID_TYPE"} & found
