"""Finds lines of the page's modules that are too long: no formatter folds them."""

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
    for path in modules():
        for number, length in long_lines(path.read_text(encoding="utf-8")):
            print(f"{path.relative_to(ROOT)}:{number}: {length} characters, the limit is {MOST}", file=sys.stderr)
            found = True
    return int(found)


def modules() -> list[Path]:
    """The modules of the page."""
    return sorted((ROOT / "distributor" / "page" / "js").rglob("*.js"))


def long_lines(text: str) -> Iterator[tuple[int, int]]:
    """Number and length of each line that is too long."""
    for number, line in enumerate(text.splitlines(), start=1):
        if len(line) > MOST:
            yield number, len(line)


if __name__ == "__main__":
    sys.exit(main())
