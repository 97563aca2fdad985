"""Entry points of the installed programs. Imports nothing slow, so that signals are handled from the start."""

from __future__ import annotations

import importlib
import os
import signal
import sys
from typing import Final

INTERRUPTED: Final = 130
"""What shells report for a program ended by SIGINT."""

_SERVICES: Final = ("serve", "bridge", "dev")
"""Subcommands of `distributor` that end well on SIGTERM."""


def distributor() -> None:
    """Run `distributor`."""
    if sys.argv[1:2] and sys.argv[1] in _SERVICES:
        end_well_on_sigterm()
    quiet_grpc()
    run("distributor.cli.distributor")


def command_agent() -> None:
    """Run `command-agent`."""
    end_well_on_sigterm()
    quiet_grpc()
    run("distributor.cli.command_agent")


def command_sender() -> None:
    """Run `command-sender`."""
    run("distributor.cli.command_sender")


def websocket_bridge() -> None:
    """Run the bridge, for `cmd/websocket_bridge.py`."""
    end_well_on_sigterm()
    quiet_grpc()
    run("distributor.cli.distributor", "bridge")


def quiet_grpc() -> None:
    """Keep gRPC from writing to stderr whenever a stranger fails a TLS handshake. It reads this at import."""
    os.environ.setdefault("GRPC_VERBOSITY", "ERROR")  # noqa: TID251 - set for grpc, not read here


def end_well_on_sigterm() -> None:
    """End with exit code 0 on SIGTERM until the program handles it itself: nothing has begun that needs an end."""
    # As below: no interpreter shutdown in the middle of an import.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(0))


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
