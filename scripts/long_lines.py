"""Finds lines of the documents, and of the page's modules, that are too long.

Tables, code blocks and single words may be as wide as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
MOST: Final = 120


def main() -> int:
    """Exit code 0 when there are none; else each is named on stderr."""
    found = False
    for path in [*documents(), *modules()]:
        for number, length in long_lines(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{number}: {length} characters, the limit is {MOST}", file=sys.stderr)
            found = True
    return int(found)


def documents() -> list[Path]:
    """The documents at the top and in docs/."""
    return sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])


def modules() -> list[Path]:
    """The modules of the page, which no formatter folds."""
    return sorted((ROOT / "distributor" / "page" / "js").rglob("*.js"))


def long_lines(text: str) -> Iterator[tuple[int, int]]:
    """Number and length of each line that is too long."""
    fenced = False
    for number, line in enumerate(text.splitlines(), start=1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif len(line) > MOST and not fenced and not line.lstrip().startswith("|") and _can_be_broken(line):
            yield number, len(line)


def _can_be_broken(line: str) -> bool:
    return " " in line.strip().removeprefix("- ")


if __name__ == "__main__":
    sys.exit(main())
