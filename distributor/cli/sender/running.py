"""Runs what a command of the command line does: settings, client, event loop, and what a failure comes to."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import show_error
from distributor.cli.sender.screen import Screen, check_stdout, drop_stdout

if TYPE_CHECKING:
    from distributor.client import CommandClient, Reach

    Action = Callable[[CommandClient, Screen], Awaitable[ExitCode | int]]


@dataclass(slots=True)
class ServerCalls:
    """Which server to call, as far as the command line says. Filled while arguments are parsed."""

    server: str | None = None
    config: Path | None = None

    def set(self, name: str, value: Any) -> None:
        """Remember an option that may stand before or after the name of the command."""
        if value is not None:
            setattr(self, name, value)

    def run(self, output: str, action: Action) -> int:
        """The exit code of `action`, called with a connected client and the screen for the format `output`.

        Raises DistributorError.
        """
        # Slow to import; see commands.py.
        import asyncio

        try:
            check_stdout()
            return int(asyncio.run(self._run(Screen(output), action)))
        except BrokenPipeError:
            drop_stdout()
            return ExitCode.BROKEN_PIPE
        except OSError as error:
            return cannot_write(error)
        except KeyboardInterrupt:
            # Here, as click would add an empty line.
            return ExitCode.INTERRUPTED

    async def _run(self, screen: Screen, action: Action) -> ExitCode | int:
        from distributor.client import ClientOptions, CommandClient
        from distributor.settings import load_client_settings

        settings = load_client_settings(self.config, server=self.server)
        options = ClientOptions(on_reach=lambda reach: screen.message(_reach_text(reach)))
        async with CommandClient(settings.server, options) as client:
            return await action(client, screen)


def cannot_write(error: OSError) -> ExitCode:
    """Report that standard output cannot be written, and return the exit code."""
    drop_stdout()
    show_error(f"cannot write: {error.strerror or error}")
    return ExitCode.FAILED


def _reach_text(reach: Reach) -> str:
    if reach.reached:
        return f"connected to the server at {reach.target} again"
    return f"the server at {reach.target} cannot be reached; trying again for up to {reach.trying_for_seconds:g} s"
