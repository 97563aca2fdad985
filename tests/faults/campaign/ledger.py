"""What the executed programs say of themselves, independently of servers, agents and clients."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final, NamedTuple

PROGRAM: Final = Path(__file__).with_name("witness.sh")

RESOLUTION_SECONDS: Final = 0.01
"""The programs read the clock in steps of this length."""


def now() -> float:
    """Seconds since boot: the clock of everything that a campaign notes. No fault sets it off."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


class Mark(StrEnum):
    """What a program notes. FAILED is an exit code of 75; STOPPED a handled SIGTERM; a killed program notes nothing."""

    START = "start"
    BEAT = "beat"
    END = "end"
    FAILED = "failed"
    STOPPED = "stopped"


class Line(NamedTuple):
    """One line of the ledger. `pid` tells two runs of a token apart."""

    mark: Mark
    token: str
    pid: int
    time: float


@dataclass(frozen=True, slots=True)
class Work:
    """What a program does: tick, print lines at each tick, then print a flood of lines; before that fail some times."""

    ticks: int = 1
    tick_seconds: float = 0.1
    lines: int = 1
    flood: int = 0
    failures: int = 0
    """How many runs fail at once, each permitting one more."""

    @property
    def seconds(self) -> float:
        """How long it sleeps in all."""
        return self.ticks * self.tick_seconds

    def argv(self, ledger: Path, token: str) -> list[str]:
        """The command line of the program that does this work."""
        numbers = (self.ticks, self.tick_seconds, self.lines, self.flood, self.failures)
        return ["/bin/sh", str(PROGRAM), str(ledger), token, *map(str, numbers)]

    def output(self, token: str) -> bytes:
        """What it prints if it runs to its end."""
        lines = [f"{token} {tick} {line}\n" for tick in range(self.ticks + 1) for line in range(1, self.lines + 1)]
        lines += [f"{token} flood {line}\n" for line in range(1, self.flood + 1)]
        return "".join(lines).encode()


PROGRAM_SECONDS: Final = 120.0
"""Longer than any program runs, on a busy machine too."""


class Ledger:
    """The file to which all programs of a campaign append."""

    def __init__(self, path: Path) -> None:
        self.path = path
        path.touch()

    def lines(self) -> list[Line]:
        """Everything noted so far."""
        noted = []
        for text in self.path.read_text().splitlines():
            mark, token, pid, time_ = text.split()
            noted.append(Line(Mark(mark), token, int(pid), float(time_)))
        return noted

    async def ended(self, token: str) -> None:
        """Wait until the program of this command has done its work."""
        async with asyncio.timeout(PROGRAM_SECONDS):
            while True:
                if any(line.mark is Mark.END and line.token == token for line in self.lines()):
                    return
                await asyncio.sleep(0.1)
