"""What the command lines of servers, bridges and agents have in common."""

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
LOG_LEVEL: Final[Option] = click.option("--log-level", metavar="LEVEL", help="Lowest level to log.")


def config_option(tables: str) -> Option:
    """`--config`; `tables` are those of the file that the program reads."""
    return click.option(
        "--config",
        type=click.Path(exists=True, dir_okay=False, path_type=Path),
        help=f"TOML file with {tables}.",
    )


def flags() -> dict[str, str]:
    """What the options of the command that runs are called where they are given, by the names of their values."""
    return {option.name: option.opts[0] for option in click.get_current_context().command.params if option.name}


def given(options: Mapping[str, Any]) -> dict[str, Any]:
    """What the command line says, without what it leaves to the environment and the settings file."""
    return {name: value for name, value in options.items() if value not in (None, ())}
