"""Runs what a command of the command line does: settings, client, event loop, and what a failure comes to."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.cli.sender.screen import show_error
from distributor.errors import DistributorError

if TYPE_CHECKING:
    from distributor.client import CommandClient


@dataclass(slots=True)
class Connection:
    """Which server to call, as far as the command line says. Filled while arguments are parsed."""

    server: str | None = None
    config: Path | None = None

    def set(self, name: str, value: Any) -> None:
        """Remember an option that may stand before or after the name of the command."""
        if value is not None:
            setattr(self, name, value)

    def run(self, action: Callable[[CommandClient], Awaitable[ExitCode | int]]) -> int:
        """The exit code of `action`, called with a connected client."""
        try:
            return int(asyncio.run(self._run(action)))
        except BrokenPipeError:
            # What is still buffered has nobody to go to; without this the interpreter complains at its end.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return ExitCode.BROKEN_PIPE
        except DistributorError as error:
            show_error(str(error))
            return exit_code_of(error)
        except OSError as error:
            show_error(f"cannot write: {error.strerror or error}")
            return ExitCode.FAILED
        except KeyboardInterrupt:
            return ExitCode.INTERRUPTED

    async def _run(self, action: Callable[[CommandClient], Awaitable[ExitCode | int]]) -> ExitCode | int:
        # Slow to import; see commands.py.
        from distributor.client import CommandClient
        from distributor.settings import load_client_settings

        settings = load_client_settings(self.config, server=self.server)
        async with CommandClient(settings.server) as client:
            return await action(client)
