"""What each program imports before it answers: `--version`, `--help` and wrong usage need nothing slow."""

from __future__ import annotations

import subprocess
import sys
from typing import Final

import pytest

SLOW: Final = (
    *("asyncio", "cryptography", "google", "grpc", "jwt", "pydantic", "pydantic_core", "rich"),
    *("starlette", "structlog", "uvicorn", "valkey", "websockets"),
)
RUN: Final = """
import sys
from distributor.cli.{module} import main
sys.argv = sys.argv[1:]
try:
    main()
finally:
    print(*sorted(set({slow}) & set(sys.modules)), file=sys.stderr)
"""
PROGRAMS: Final = {"distributor": "distributor", "command-sender": "command_sender", "command-agent": "command_agent"}


def imported_by(program: str, *arguments: str, code: int) -> str:
    """The slow modules that a call imports; it must end with `code`."""
    run = RUN.format(module=PROGRAMS[program], slow=SLOW)
    command = [sys.executable, "-c", run, program, *arguments]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert ended.returncode == code, ended.stderr
    assert "Traceback" not in ended.stderr
    return ended.stderr.splitlines()[-1]


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize(("argument", "code"), [("--version", 0), ("--help", 0), ("--no-such", 2)])
def test_nothing_slow_is_imported_before_it_is_needed(program: str, argument: str, code: int) -> None:
    assert imported_by(program, argument, code=code) == ""


@pytest.mark.parametrize("command", ["serve", "bridge", "dev", "demo", "token"])
def test_wrong_usage_of_a_command_of_distributor_is_quick(command: str) -> None:
    assert imported_by("distributor", command, "--no-such", code=2) == ""


@pytest.mark.parametrize("command", ["serve", "bridge", "dev", "demo"])
def test_a_wrong_setting_is_reported_before_grpc_is_imported(command: str) -> None:
    option = "--bridge-listen=x" if command == "dev" else "--listen=x"
    assert "grpc" not in imported_by("distributor", command, option, code=2).split()


@pytest.mark.parametrize("command", ["send", "get", "result", "watch", "list", "cancel", "retry", "agents"])
def test_the_help_of_a_command_of_the_sender_is_quick(command: str) -> None:
    assert imported_by("command-sender", command, "--help", code=0) == ""
