"""`distributor config show`: prints the settings in force, in the form of a settings file."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import click
from pydantic import SecretStr

from distributor.settings.loading import GROUPS, is_secret, load_with_origins
from distributor.settings.values import SettingsGroup

_COMMENT_COLUMN: Final = 48
_DEFAULT: Final = "default"


def show_settings(tables: Sequence[str], config: Path | None, *, with_origin: bool) -> None:
    """Print the settings of `tables`, or of all. Raises UsageError for another name, ConfigurationError as `serve`."""
    known = [group.table for group in GROUPS]
    for table in tables:
        if table not in known:
            raise click.UsageError(f"there is no table {table}: choose from {', '.join(known)}")
    groups = [group for group in GROUPS if not tables or group.table in tables]
    for place, group in enumerate(groups):
        settings, origins = load_with_origins(group, config)
        if place:
            click.echo()
        for line in _lines(settings, origins if with_origin else None):
            click.echo(line)


def _lines(settings: SettingsGroup, origins: Mapping[str, str] | None) -> Iterator[str]:
    yield f"[{settings.table}]"
    for name in settings.names():
        line = setting_line(name, getattr(settings, name))
        if origins is not None:
            line = f"{line:<{_COMMENT_COLUMN}}  # {origins.get(name, _DEFAULT)}"
        yield line
        if name == "workers" and getattr(settings, name) > 1:
            yield "# each worker counts agents, calls and callers for itself: limits apply to each"


def setting_line(name: str, value: Any) -> str:
    """A line of a settings file; a comment for what is not set, or secret."""
    if value is None:
        return f"# {name} is not set"
    if isinstance(value, SecretStr) or is_secret(name):
        plain = value.get_secret_value() if isinstance(value, SecretStr) else str(value)
        if not plain or ("@" not in plain and not isinstance(value, SecretStr)):
            return f"{name} = {json.dumps(plain)}"
        return f"# {name} is set and secret"
    return f"{name} = {_toml(value)}"


def _toml(value: Any) -> str:
    match value:
        case bool() | int() | float():
            return json.dumps(value)
        case str():
            return json.dumps(value, ensure_ascii=False)
        case Path():
            return json.dumps(str(value), ensure_ascii=False)
        case Mapping():
            members = ", ".join(f"{json.dumps(str(key))} = {_toml(member)}" for key, member in value.items())
            return f"{{{members}}}"
        case _:
            return f"[{', '.join(_toml(member) for member in value)}]"
