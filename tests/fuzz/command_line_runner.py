"""Runs programs with odd arguments, one after the other in this process: for each line on stdin, a seed, one of them.

Prints a JSON line for each: the arguments, the exit code and, if it behaved as no program may, what is wrong. Whatever
would serve until stopped returns at once instead; whatever waits for others is interrupted, as by Ctrl-C.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any, Final, NamedTuple
from unittest.mock import patch

import click
from click.testing import CliRunner, Result

import distributor.agent
from distributor.cli import command_agent, command_sender
from distributor.cli import conformance as conformance_kit
from distributor.cli import distributor as distributor_cli
from distributor.cli.exit_codes import ExitCode
from tests.fuzz.generators.command_lines import SETTINGS_FILES, odd_command_line

INTERRUPT_SECONDS: Final = 1.0
INTERRUPTS: Final = 20
"""A program that survives so many interrupts hangs."""
MOST_SHOWN: Final = 4_000
PROGRAMS: Final[dict[str, click.Command]] = {
    "distributor": distributor_cli.main,
    "command-agent": command_agent.main,
    "command-sender": command_sender.command_sender,
}
SOUND: Final = (
    ("command-sender", ["list", "-o", "json"]),
    ("command-sender", ["agents"]),
    ("distributor", ["--version"]),
    ("command-agent", ["--help"]),
)


class Hung(BaseException):
    """The program does not end when interrupted."""


class Ended(NamedTuple):
    """How a program ended: its arguments and exit code, and what is wrong with that."""

    arguments: list[str]
    code: int
    fault: str

    def as_line(self) -> str:
        return json.dumps({"arguments": self.arguments, "code": self.code, "fault": self.fault})


def main() -> None:
    """Serve the lines on stdin until its end."""
    for name, content in SETTINGS_FILES.items():
        Path(name).write_bytes(content)
    # The first output must be ours: programs print to what the test runner of click puts in place.
    out = os.fdopen(os.dup(sys.stdout.fileno()), "w", buffering=1)
    with _nothing_serves():
        for line in sys.stdin:
            order = json.loads(line)
            out.write(run_one(Random(order["seed"]), order["sound"]).as_line() + "\n")


def run_one(rng: Random, sound: bool) -> Ended:
    """Run one program, chosen with its arguments by `rng`."""
    if sound:
        name, arguments = rng.choice(SOUND)
    else:
        name = rng.choice(sorted(PROGRAMS))
        arguments = odd_command_line(rng, PROGRAMS[name])
    try:
        with _interrupts():
            result = CliRunner().invoke(PROGRAMS[name], arguments, prog_name=name)
    except Hung:
        return Ended([name, *arguments], -1, "does not end when interrupted")
    return Ended([name, *arguments], result.exit_code, fault_of(result))


def fault_of(result: Result) -> str:
    """Return what is wrong with how a program ended, empty if nothing is."""
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        return "".join(traceback.format_exception(result.exception))[-MOST_SHOWN:]
    if result.exit_code not in set(ExitCode):
        return f"the exit code {result.exit_code} has no meaning"
    if "Traceback" in result.stderr:
        return result.stderr[-MOST_SHOWN:]
    if result.exit_code not in (ExitCode.SUCCESS, ExitCode.INTERRUPTED) and not result.output.strip():
        return "it says nothing about its failure"
    return ""


@contextmanager
def _nothing_serves() -> Iterator[None]:
    """Have programs that serve end once their arguments and settings are accepted."""

    def close(settings: object, program: Any) -> None:
        program.close()

    async def no_scenarios(*_: object) -> list[object]:
        return []

    with (
        patch.object(distributor_cli, "_run", close),
        patch.object(conformance_kit, "run_scenarios", no_scenarios),
        patch.object(distributor.agent.Agent, "run", lambda self: None),
    ):
        yield


@contextmanager
def _interrupts() -> Iterator[None]:
    """Interrupt what takes longer than INTERRUPT_SECONDS, again and again. Raises Hung in it if that does not help."""
    count = 0

    def interrupt(_: int, frame: FrameType | None) -> None:
        nonlocal count
        count += 1
        if count > INTERRUPTS:
            raise Hung
        signal.raise_signal(signal.SIGINT)

    before: Any = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, INTERRUPT_SECONDS, INTERRUPT_SECONDS)
    try:
        yield
    except KeyboardInterrupt:
        # It came between the program and us.
        pass
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


if __name__ == "__main__":
    main()
