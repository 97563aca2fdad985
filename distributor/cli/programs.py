"""Entry points of the installed programs. Imports nothing slow, so that Ctrl-C is quiet from the start."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Final

INTERRUPTED: Final = 130
"""What shells report for a program ended by SIGINT."""


def distributor() -> None:
    """Run `distributor`."""
    run("distributor.cli.distributor")


def command_agent() -> None:
    """Run `command-agent`."""
    run("distributor.cli.command_agent")


def command_sender() -> None:
    """Run `command-sender`."""
    run("distributor.cli.command_sender")


def websocket_bridge() -> None:
    """Run the bridge, for `cmd/websocket_bridge.py`."""
    run("distributor.cli.distributor", "bridge")


def run(module: str, program: str = "main") -> None:
    """Import and call a program; an interrupt before the program handles interrupts ends the process quietly."""
    try:
        call = getattr(importlib.import_module(module), program)
    except KeyboardInterrupt:
        # Skip interpreter shutdown: half-imported modules would print errors.
        os._exit(INTERRUPTED)
    try:
        call()
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
