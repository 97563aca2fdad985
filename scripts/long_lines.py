"""Finds overlong lines in sources that no formatter wraps, such as Lua, JavaScript and .proto files."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parent.parent
MAX_COLUMNS: Final = 120
SOURCES: Final = (
    "bench/*.c",
    "distributor/page/css/**/*.css",
    "distributor/page/js/**/*.js",
    "distributor/store/functions/*.lua",
    "examples/node-agent/*.js",
    "proto/**/*.proto",
    "scripts/*.sh",
    "tests/browser/**/*.js",
    "tests/faults/**/*.c",
)
"""Patterns of paths below the root. Foreign and generated files are not among them."""


def main() -> int:
    """Return 0 if there are none; else print each to stderr and return 1."""
    found = False
    for path in sources():
        for number, length in long_lines(path.read_text(encoding="utf-8")):
            print(
                f"{path.relative_to(ROOT)}:{number}: {length} characters, the limit is {MAX_COLUMNS}", file=sys.stderr
            )
            found = True
    return int(found)


def sources() -> list[Path]:
    """Return the files to check."""
    return sorted(path for pattern in SOURCES for path in ROOT.glob(pattern))


def long_lines(text: str) -> Iterator[tuple[int, int]]:
    """Yield the number and length of each overlong line."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MAX_COLUMNS:
            yield number, len(line)


if __name__ == "__main__":
    sys.exit(main())
