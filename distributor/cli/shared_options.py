"""Options shared by servers, bridges and agents."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import click

Program = Callable[..., Any]
Option = Callable[[Program], Program]

LOG_FORMAT: Final[Option] = click.option(
    "--log-format", type=click.Choice(["console", "json"]), help="Format of log lines."
)
LOG_LEVEL: Final[Option] = click.option("--log-level", metavar="LEVEL", help="Minimum level to log.")


def file_option(name: str, help_text: str, **options: Any) -> Option:
    """An option that names a file."""
    return click.option(name, type=click.Path(path_type=Path), metavar="FILE", help=help_text, **options)


def caller_tls_options(**more: Any) -> list[Option]:
    """The options for TLS and the token of an agent or a caller. `more` goes to each."""
    return [
        click.option("--tls", is_flag=True, default=None, help="Use TLS on loopback too.", **more),
        file_option("--tls-ca", "Authorities of the server's certificate. [default: those of the system]", **more),
        file_option("--tls-cert", "Client certificate.", **more),
        file_option("--tls-key", "Key of the client certificate.", **more),
        file_option("--token-file", "File with the token to send.", **more),
        click.option("--insecure", is_flag=True, default=None, help="Permit plain text beyond loopback.", **more),
    ]


def with_options(*options: Option) -> Option:
    """Decorate a command with `options`, in this order."""

    def decorate(command: Program) -> Program:
        for option in reversed(options):
            command = option(command)
        return command

    return decorate


_CALLER_OPTIONS: Final = f"{__name__}.caller_options"


def _remember(context: click.Context, parameter: click.Parameter, value: Any) -> None:
    if value is not None:
        context.meta.setdefault(_CALLER_OPTIONS, {})[parameter.name] = value


def admin_server_options(command: Program) -> Program:
    """Add --server, the argument `server`, and --context and those of TLS, for `remembered_caller_options`."""
    return with_options(
        click.option(
            "--server",
            metavar="HOST:PORT[,…]",
            help="The server or servers to call. [default: that of this machine if its key for tokens can be read, "
            "else that of the current context, else 127.0.0.1:50051]",
        ),
        click.option(
            "--context",
            metavar="NAME",
            expose_value=False,
            callback=_remember,
            help="The context of command-sender login with the server and the credentials.",
        ),
        *caller_tls_options(expose_value=False, callback=_remember),
    )(command)


def remembered_caller_options() -> dict[str, Any]:
    """Return what `admin_server_options` was given for the running command, but for --server."""
    context = click.get_current_context(silent=True)
    return dict(context.meta.get(_CALLER_OPTIONS, {})) if context is not None else {}


def config_option(tables: str) -> Option:
    """The option `--config`; `tables` describes the tables of the file that the program reads."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"TOML file with {tables}.",
    )


def flags() -> dict[str, str]:
    """The flag of each option of the running command, by parameter name."""
    return {option.name: option.opts[0] for option in click.get_current_context().command.params if option.name}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """The options that were given; the environment and the settings file decide the others."""
    return {name: value for name, value in options.items() if value not in (None, ())}
