"""Runs an action with settings, client and event loop, and turns failures into exit codes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from distributor.cli.exit_codes import ExitCode
from distributor.cli.login_hint import login_hint
from distributor.cli.one_line import show_error
from distributor.cli.sender.screen import Screen, check_stdout, drop_stdout

if TYPE_CHECKING:
    from distributor.client import CommandClient, Connectivity
    from distributor.client.signing import CommandSigner
    from distributor.settings.caller_settings import CallerSettings

    Action = Callable[[CommandClient, Screen], Awaitable[ExitCode | int]]
    CallerAction = Callable[[CallerSettings, Screen], Awaitable[ExitCode | int]]


FLAGS: Final = ("server", "tls", "tls_ca", "tls_cert", "tls_key", "token_file", "insecure")
"""Options that are settings of a caller."""


@dataclass(slots=True)
class ServerCalls:
    """The server options of the command line, filled while arguments are parsed, and the calls made with them."""

    server: str | None = None
    context: str | None = None
    config: Path | None = None
    tls: bool | None = None
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    token_file: Path | None = None
    insecure: bool | None = None
    sign_key: Path | None = None
    sign_for: float | None = None

    def set(self, name: str, value: Any) -> None:
        """Store an option that may stand before or after the name of the command."""
        if value is not None:
            setattr(self, name, value)

    def sign_with(self, key: Path | None, validity_seconds: float | None) -> None:
        """Sign commands with a private key, valid for so long or the default time; None to sign none."""
        self.sign_key, self.sign_for = key, validity_seconds

    def run(self, output: str, action: Action) -> int:
        """Call `action` with a connected client and a screen of the format `output`; return its exit code.

        Raises DistributorError.
        """
        return self.run_as(output, lambda caller, screen: self._with_client(caller, screen, action))

    def run_as(self, output: str, action: CallerAction) -> int:
        """Call `action` with the caller's settings and a screen of the format `output`; return its exit code.

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
            # Caught here because click would print an empty line.
            return ExitCode.INTERRUPTED

    def flags(self) -> dict[str, Any]:
        """The settings that options name."""
        return {name: value for name in FLAGS if (value := getattr(self, name)) is not None}

    async def _run(self, screen: Screen, action: CallerAction) -> ExitCode | int:
        from distributor.settings.caller_settings import load_caller_settings

        caller = load_caller_settings(self.config, self.context, **self.flags())
        with login_hint(caller):
            return await action(caller, screen)

    async def _with_client(self, caller: CallerSettings, screen: Screen, action: Action) -> ExitCode | int:
        from distributor.client import ClientCredentials, ClientOptions, CommandClient, Compression

        settings = caller.settings
        options = ClientOptions(
            on_connectivity=lambda change: screen.message(_connectivity_text(change)),
            compression=Compression(settings.compression == "gzip", settings.compression_threshold),
            credentials=ClientCredentials.of(settings),
        )
        if self.sign_key is not None:
            options = replace(options, signer=self._signer(self.sign_key))
        async with CommandClient(settings.server, options) as client:
            return await action(client, screen)

    def _signer(self, key: Path) -> CommandSigner:
        from distributor.client.signing import DEFAULT_VALIDITY_SECONDS, CommandSigner

        return CommandSigner.from_file(key, self.sign_for or DEFAULT_VALIDITY_SECONDS)


def cannot_write(error: OSError) -> ExitCode:
    """Report that standard output cannot be written, and return the exit code."""
    drop_stdout()
    show_error(f"cannot write: {error.strerror or error}")
    return ExitCode.FAILED


def _connectivity_text(connectivity: Connectivity) -> str:
    if connectivity.connected:
        return f"connected to the server at {connectivity.target} again"
    seconds = f"{connectivity.retry_seconds:g} s"
    return f"the server at {connectivity.target} cannot be reached; trying again for up to {seconds}"
