"""The source as text and syntax trees, for tests that check rules about it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
PACKAGE: Final = ROOT / "distributor"
GENERATED: Final = PACKAGE / "v1"


def modules() -> list[Path]:
    """Every module of the package that people wrote."""
    return sorted(path for path in PACKAGE.rglob("*.py") if GENERATED not in path.parents)


def imported_names(path: Path) -> Iterator[str]:
    """Full names of what a module imports anywhere in it: `from a import b` gives a.b."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def layer(path: Path) -> str:
    """The folder or module directly below the package that a module belongs to."""
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def documents() -> list[Path]:
    """The documents at the top and in docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
