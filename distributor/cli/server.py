"""`distributor`: the server, and everything in one go for development."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

import click

from distributor import __version__
from distributor.cli.exit_codes import ExitCode, exit_code_of
from distributor.errors import DistributorError
from distributor.observability.logging import configure_logging
from distributor.settings import ServerSettings, load_server_settings

F = TypeVar("F", bound=Callable[..., Any])


def _server_options(command: F) -> F:
    """The settings that are most often given on the command line; all others come from the file or environment."""
    options = [
        click.option("--listen", metavar="HOST:PORT", help="Where agents and callers connect (gRPC)."),
        click.option("--http-listen", metavar="HOST:PORT", help="Where /metrics, /healthz and /readyz are."),
        click.option("--valkey-url", metavar="URL", help="The Valkey to use; without one, an embedded one is started."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="Where the embedded Valkey keeps its data."),
        click.option("--reflection", is_flag=True, default=None, help="Answer gRPC reflection."),
        click.option("--log-format", type=click.Choice(["console", "json"]), help="How log lines look."),
        click.option("--log-level", metavar="LEVEL", help="The least important log lines to write."),
        click.option(
            "--config",
            type=click.Path(exists=True, dir_okay=False, path_type=Path),
            help="TOML file with a [server] table.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="distributor")
def main() -> None:
    """Queue commands for agents behind NAT, follow them live, keep their results."""


@main.command()
@_server_options
def serve(config: Path | None, **options: Any) -> None:
    """Run a server until SIGTERM or Ctrl-C, which drain it first. A second signal ends it at once."""
    from distributor.cli.serving import serve_until_stopped

    _run(config, options, serve_until_stopped)


@main.command()
@_server_options
def dev(config: Path | None, **options: Any) -> None:
    """Run a server and one agent that may EXEC, on this machine, for trying things out."""
    from distributor.cli.dev import develop

    _run(config, {"log_level": "warning", **_given(options)}, develop)


@main.command()
@click.option("--once", is_flag=True, help="End by itself once the command has ended.")
@_server_options
def demo(config: Path | None, once: bool, **options: Any) -> None:
    """As dev, and one real command through it: its output as it comes, its result, its receipts."""
    from distributor.cli.demo import demonstrate

    async def demonstration(settings: ServerSettings) -> None:
        await demonstrate(settings, once=once)

    _run(config, {"log_level": "warning", **_given(options)}, demonstration)


def _run(
    config: Path | None,
    options: dict[str, Any],
    program: Callable[[ServerSettings], Coroutine[Any, Any, None]],
) -> None:
    try:
        settings = load_server_settings(config, **_given(options))
        configure_logging(settings.log_format, settings.log_level)
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            runner.run(program(settings))
    except DistributorError as error:
        click.echo(f"distributor: {error.message}", err=True)
        sys.exit(exit_code_of(error))
    except KeyboardInterrupt:
        sys.exit(ExitCode.INTERRUPTED)


def _given(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (the extra `speed`)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
