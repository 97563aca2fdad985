"""Lines of logs that say that something went wrong inside, although nobody outside need have noticed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

REPAIRED: Final = "repaired the store"
SIGNS: Final = ("Traceback", "Abort already called", REPAIRED)
LINES_AFTER: Final = 25
"""How many lines after a sign are quoted: the rest of a traceback."""


class Complaint(NamedTuple):
    """What the program `name` logged, with the lines around it, and the sign by which it was found."""

    name: str
    sign: str
    text: str


class LogReader:
    """Reads what was appended to logs since it last looked, whole lines only."""

    def __init__(self) -> None:
        self._read_bytes: dict[Path, int] = {}

    def complaints(self, logs: Iterable[Path]) -> Iterator[Complaint]:
        """The new complaints in each of these files."""
        for log in logs:
            lines = self._new_lines(log)
            for place, line in enumerate(lines):
                for sign in SIGNS:
                    if sign in line:
                        quoted = lines[max(0, place - 1) : place + LINES_AFTER]
                        yield Complaint(log.stem, sign, "\n".join(quoted))

    def _new_lines(self, log: Path) -> list[str]:
        begin = self._read_bytes.get(log, 0)
        with log.open("rb") as file:
            file.seek(begin)
            new = file.read()
        whole = new[: new.rfind(b"\n") + 1]
        self._read_bytes[log] = begin + len(whole)
        return whole.decode(errors="replace").splitlines()
