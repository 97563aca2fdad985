"""Finds overlong lines in the modules of the page and of the agent in Node, which no formatter wraps."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
MAX_COLUMNS: Final = 120


def main() -> int:
    """Return 0 if there are none; else print each to stderr and return 1."""
    found = False
    for path in modules():
        for number, length in long_lines(path.read_text(encoding="utf-8")):
            print(
                f"{path.relative_to(ROOT)}:{number}: {length} characters, the limit is {MAX_COLUMNS}", file=sys.stderr
            )
            found = True
    return int(found)


def modules() -> list[Path]:
    """Return the modules of the page and of the agent."""
    agent = (ROOT / "examples" / "node-agent").glob("*.js")
    return sorted([*(ROOT / "distributor" / "page" / "js").rglob("*.js"), *agent])


def long_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the number and length of each overlong line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_COLUMNS:
            yield number, len(line)


if __name__ == "__main__":
    sys.exit(main())
