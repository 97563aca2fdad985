"""Where the installed programs begin. Imports nothing slow, so that Ctrl-C is quiet from the first moment on."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

INTERRUPTED: Final = 130
"""What shells report for a program ended by SIGINT."""


def distributor() -> None:
    """The program `distributor`."""
    run("distributor.cli.distributor")


def command_agent() -> None:
    """The program `command-agent`."""
    run("distributor.cli.command_agent")


def command_sender() -> None:
    """The program `command-sender`."""
    run("distributor.cli.command_sender")


def websocket_bridge() -> None:
    """The program of `cmd/websocket_bridge.py`."""
    run("distributor.cli.distributor", "bridge")


def run(module: str, program: str = "main") -> None:
    """Import a program and call it. An interrupt that comes before it handles them ends the process quietly."""
    try:
        call = getattr(importlib.import_module(module), program)
    except KeyboardInterrupt:
        # At once: modules that are half imported complain when the interpreter ends.
        os._exit(INTERRUPTED)
    try:
        call()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
