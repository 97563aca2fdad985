"""Ctrl-C before a program handles it."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))

INTERRUPTED_IMPORT = """
import os, signal, sys

class Interrupt:
    def find_spec(self, name, path, target=None):
        if name == "{module}":
            os.kill(os.getpid(), signal.SIGINT)

sys.meta_path.insert(0, Interrupt())
sys.argv = ["program", "{argument}"]
from distributor.cli import programs
programs.{name}()
"""


@pytest.mark.parametrize("name", ["distributor", "command_agent", "command_sender", "websocket_bridge"])
def test_an_interrupt_during_the_first_imports_ends_a_program_quietly(name: str) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_IMPORT.format(name=name, module="click", argument="--help")],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_an_interrupt_while_a_command_is_about_to_start_ends_it_quietly() -> None:
    script = INTERRUPTED_IMPORT.format(name="command_sender", module="asyncio", argument="agents")
    ended = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, check=False)
    assert (ended.returncode, ended.stdout, ended.stderr) == (130, b"", b"")


def test_nothing_slow_is_imported_before_interrupts_are_quiet() -> None:
    loaded = "import sys; before = set(sys.modules); import distributor.cli.programs; print(*set(sys.modules) - before)"
    ended = subprocess.run([sys.executable, "-c", loaded], cwd=ROOT, capture_output=True, check=True, text=True)
    assert not {"asyncio", "click", "grpc", "pydantic"} & set(ended.stdout.split())
