"""`distributor`: the server, the bridge, and both with an agent for development.

What a command runs is imported only when it runs: `--version`, `--help` and wrong usage answer without gRPC, pydantic
and the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from distributor import __version__
from distributor.cli.one_line import OneLineCommand, OneLineGroup
from distributor.cli.shared_options import LOG_FORMAT, LOG_LEVEL, Option, Program, config_option, flags, given

if TYPE_CHECKING:
    import asyncio

    from distributor.settings import BridgeSettings, ServerSettings

NAME: Final = "distributor"
_CONFIG: Final = config_option("a table for each program, such as [server]")
_BRIDGE_LISTEN: Final = click.option(
    "--bridge-listen", metavar="HOST:PORT", help="Where the page and dashboards connect."
)


def _server_options(command: Program) -> Program:
    """The settings that are most often given on the command line; all others come from the file or environment."""
    options: list[Option] = [
        click.option("--listen", metavar="HOST:PORT", help="Where agents and callers connect (gRPC)."),
        click.option("--http-listen", metavar="HOST:PORT", help="Where /metrics, /healthz and /readyz are."),
        click.option("--valkey-url", metavar="URL", help="The Valkey to use; without one, an embedded one is started."),
        click.option("--data-dir", type=click.Path(path_type=Path), help="Where the embedded Valkey keeps its data."),
        click.option("--reflection", is_flag=True, default=None, help="Answer gRPC reflection."),
        LOG_FORMAT,
        LOG_LEVEL,
        _CONFIG,
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.group(cls=OneLineGroup, begin=NAME, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name=NAME)
def main() -> None:
    """Queue commands for agents behind NAT, follow them live, keep their results."""


@main.command()
@_server_options
def serve(config: Path | None, **options: Any) -> None:
    """Run a server until SIGTERM or Ctrl-C, which drain it first. A second signal ends it at once."""
    from distributor.settings import load_server_settings

    settings = load_server_settings(config, flags(), **given(options))
    from distributor.app.server_process import serve_until_stopped

    _run(settings, serve_until_stopped(settings))


# A program of its own too: cmd/websocket_bridge.py.
@main.command(cls=OneLineCommand, begin=NAME, short_help="Serve dashboards: the page, and a WebSocket for others.")
@click.option("--listen", metavar="HOST:PORT", help="Where dashboards connect.")
@click.option("--server", metavar="HOST:PORT", help="The server to call.")
@click.option("--valkey-url", metavar="URL", help="The Valkey of that server.")
@click.option("--token-key-file", type=click.Path(path_type=Path), help="File with the key that signs tokens.")
@click.option("--public-key", "public_keys", multiple=True, metavar="FILE", help="PEM file; repeatable.")
@click.option("--allow-origin", "allowed_origins", multiple=True, metavar="ORIGIN", help="Of pages; repeatable.")
@LOG_FORMAT
@LOG_LEVEL
@_CONFIG
def bridge(config: Path | None, **options: Any) -> None:
    """Serve dashboards until SIGTERM or Ctrl-C: the page, and a WebSocket for others. See docs/operations.md."""
    from distributor.settings import load_bridge_settings

    settings = load_bridge_settings(config, flags(), **given(options))
    from distributor.app.bridge_process import bridge_until_stopped

    _run(settings, bridge_until_stopped(settings))


@main.command()
@click.option("--subject", required=True, metavar="NAME", help="Whom the token is for.")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    type=click.Choice(["dashboard:read", "command:write"]),
    help="What it permits; repeatable; dashboard:read if not given.",
)
@click.option("--expires-in", default="12h", show_default=True, metavar="TIME", help="Such as 90s, 15m, 12h or 7d.")
@click.option("--token-key-file", type=click.Path(path_type=Path), help="File with the key that signs tokens.")
@_CONFIG
def token(config: Path | None, subject: str, scopes: tuple[str, ...], expires_in: str, **options: Any) -> None:
    """Print a token for a dashboard, signed with the bridge's key."""
    from distributor.cli.token import token_for
    from distributor.settings import load_bridge_settings

    click.echo(token_for(load_bridge_settings(config, flags(), **given(options)), subject, scopes, expires_in))


@main.command(short_help="Run a server, a bridge and one agent on this machine.")
@_BRIDGE_LISTEN
@_server_options
def dev(config: Path | None, bridge_listen: str | None, **options: Any) -> None:
    """Run a server, a bridge and one agent that may EXEC, on this machine, for trying things out."""
    settings, bridge_settings = _both_settings(config, bridge_listen, options)
    from distributor.cli.dev import develop

    _run(settings, develop(settings, bridge_settings))


@main.command(short_help="As dev, plus one real command.")
@click.option("--once", is_flag=True, help="End by itself once the command has ended.")
@_BRIDGE_LISTEN
@_server_options
def demo(config: Path | None, once: bool, bridge_listen: str | None, **options: Any) -> None:
    """As dev, plus one real command: its live output, its result, its receipts."""
    settings, bridge_settings = _both_settings(config, bridge_listen, options)
    from distributor.cli.demo import demonstrate

    _run(settings, demonstrate(settings, bridge_settings, once=once))


def _both_settings(
    config: Path | None, bridge_listen: str | None, options: dict[str, Any]
) -> tuple[ServerSettings, BridgeSettings]:
    from distributor.settings import load_bridge_settings, load_server_settings

    return (
        load_server_settings(config, flags(), **{"log_level": "warning", **given(options)}),
        load_bridge_settings(config, {"listen": "--bridge-listen"}, listen=bridge_listen),
    )


def _run(settings: ServerSettings | BridgeSettings, program: Coroutine[Any, Any, None]) -> None:
    import asyncio

    from distributor.observability.logging import configure_logging

    configure_logging(settings.log_format, settings.log_level)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(program)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's where it is installed (the extra `speed`)."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop
