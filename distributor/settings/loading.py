"""Loads settings from all sources and reports every problem in one sentence."""

from __future__ import annotations

import difflib
import os
import tomllib
from collections.abc import Iterable, Mapping, Set
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

from pydantic import ValidationError
from pydantic_core import ErrorDetails
from pydantic_settings import EnvSettingsSource

from distributor.environment import ATTEMPT_MARKER, COMMAND_MARKER
from distributor.errors import ConfigurationError
from distributor.settings.agent import AgentSettings
from distributor.settings.bridge import BridgeSettings
from distributor.settings.client import ClientSettings
from distributor.settings.server import ServerSettings
from distributor.settings.values import SettingsGroup

ENVIRONMENT_PREFIX: Final = "DISTRIBUTOR_"
CONFIG_VARIABLE: Final = "DISTRIBUTOR_CONFIG"
GROUPS: Final[tuple[type[SettingsGroup], ...]] = (ServerSettings, BridgeSettings, AgentSettings, ClientSettings)

_SECRET_FIELDS: Final = frozenset({"server_token", "token", "token_key", "valkey_url"})
"""Fields with a key or a password, whose values errors do not repeat."""

NO_FLAGS: Final[Mapping[str, str]] = {}

Group = TypeVar("Group", bound=SettingsGroup)


def load_server_settings(
    config: Path | None = None, flags: Mapping[str, str] = NO_FLAGS, **overrides: Any
) -> ServerSettings:
    """Load the server's settings. `config` is a TOML file; overrides of None are ignored. `flags` maps overrides to
    command-line flags, for flags that are not named after the setting.

    Raises ConfigurationError with a sentence for each problem.
    """
    return _load(ServerSettings, config, flags, overrides)


def load_bridge_settings(
    config: Path | None = None, flags: Mapping[str, str] = NO_FLAGS, **overrides: Any
) -> BridgeSettings:
    """Load a bridge's settings; see `load_server_settings`."""
    return _load(BridgeSettings, config, flags, overrides)


def load_agent_settings(
    config: Path | None = None, flags: Mapping[str, str] = NO_FLAGS, **overrides: Any
) -> AgentSettings:
    """Load an agent's settings; see `load_server_settings`."""
    return _load(AgentSettings, config, flags, overrides)


def load_client_settings(
    config: Path | None = None,
    flags: Mapping[str, str] = NO_FLAGS,
    *,
    ignored: Set[str] = frozenset(),
    **overrides: Any,
) -> ClientSettings:
    """Load a caller's settings; see `load_server_settings`. Those `ignored` are not taken from file and environment."""
    return _load_group(ClientSettings, config, flags, overrides, ignored)[0]


def environment_name(group: type[SettingsGroup], field: str) -> str:
    """Return the environment variable of a field."""
    return f"{group.model_config.get('env_prefix', '')}{field}".upper()


def load_with_origins(
    group: type[Group], config: Path | None = None, flags: Mapping[str, str] = NO_FLAGS, **overrides: Any
) -> tuple[Group, Mapping[str, str]]:
    """Load a group, and say where each setting that is not a default comes from; see `load_server_settings`."""
    settings, origins = _load_group(group, config, flags, overrides)
    return settings, {name: origin.text for name, origin in origins.items()}


def is_secret(name: str) -> bool:
    """Whether a setting of this name holds a key or a password."""
    return name in _SECRET_FIELDS


class _Origin(NamedTuple):
    """Where a setting comes from: as errors name it, and as a list of settings does."""

    name: str
    text: str


def _load(group: type[Group], config: Path | None, flags: Mapping[str, str], overrides: Mapping[str, Any]) -> Group:
    return _load_group(group, config, flags, overrides)[0]


def _load_group(
    group: type[Group],
    config: Path | None,
    flags: Mapping[str, str],
    overrides: Mapping[str, Any],
    ignored: Set[str] = frozenset(),
) -> tuple[Group, Mapping[str, _Origin]]:
    path = config or (Path(os.environ[CONFIG_VARIABLE]) if os.environ.get(CONFIG_VARIABLE) else None)
    file = _read_toml(path) if path else {}
    given = {name: value for name, value in overrides.items() if value is not None}
    problems = [*_unknown_in_file(file, path), *_unknown_in_environment(), *_unknown(given, group.model_fields, "")]
    if problems:
        raise _error(problems)

    from_file = {name: value for name, value in file.get(group.table, {}).items() if name not in ignored}
    from_environment = {name: value for name, value in EnvSettingsSource(group)().items() if name not in ignored}
    origins = {name: _Origin(f"{name} in [{group.table}] of {path}", f"file {path}") for name in from_file}
    for name in from_environment:
        variable = environment_name(group, name)
        origins[name] = _Origin(variable, f"environment {variable}")
    for name in given:
        flag = flags.get(name, f"--{name.replace('_', '-')}")
        origins[name] = _Origin(flag, f"flag {flag}")
    try:
        return group(**{**from_file, **from_environment, **given}), origins
    except ValidationError as error:
        raise _error(_sentence(details, origins) for details in error.errors()) from None


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise _error([f"cannot read the settings file {path}: {error.strerror}"]) from error
    except ValueError as error:
        raise _error([f"the settings file {path} is not valid TOML: {error}"]) from error


def _unknown_in_file(file: Mapping[str, Any], path: Path | None) -> list[str]:
    tables = {group.table: group for group in GROUPS}
    problems = _unknown(file, tables, f" in {path}")
    for name, group in tables.items():
        content = file.get(name, {})
        if isinstance(content, dict):
            problems += _unknown(content, group.model_fields, f" in [{name}] of {path}")
        else:
            problems.append(f"{name} in {path} must be a table, [{name}]")
    return problems


def _unknown_in_environment() -> list[str]:
    settings = (environment_name(group, field) for group in GROUPS for field in group.model_fields)
    # EXEC marks its programs, which may be ours.
    known = {CONFIG_VARIABLE, COMMAND_MARKER, ATTEMPT_MARKER, *settings}
    names = [name for name in os.environ if name.startswith(ENVIRONMENT_PREFIX)]
    return _unknown(names, known, " in the environment", ENVIRONMENT_PREFIX)


def _unknown(names: Iterable[str], known: Iterable[str], where: str, prefix: str = "") -> list[str]:
    """A sentence for each unknown name, with a similar known one. Their common `prefix` does not make them similar."""
    known = [name.removeprefix(prefix) for name in known]
    problems = []
    for name in sorted({name.removeprefix(prefix) for name in names} - set(known)):
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.8)
        problems.append(
            f"unknown setting {prefix}{name}{where}" + (f"; did you mean {prefix}{near[0]}?" if near else "")
        )
    return problems


def _sentence(details: ErrorDetails, origins: Mapping[str, _Origin]) -> str:
    message = details["msg"].removeprefix("Value error, ")
    if not details["loc"]:
        return message
    name, *parts = map(str, details["loc"])
    origin = origins[name].name if name in origins else name
    # Occurrences of a repeated flag have no index.
    where = origin if origin.startswith("--") else ".".join([origin, *parts])
    message = message.replace("Input should be", "must be", 1).partition(", unable to")[0]
    if not message.startswith("must"):
        return f"{where}: {message}"
    return f"{where} {message}" if name in _SECRET_FIELDS else f"{where} {message}, not {_shown(details['input'])}"


def _shown(value: object, limit: int = 80) -> str:
    text = repr(value)
    return text if len(text) <= limit else f"{text[:limit]}…"


def _error(problems: Iterable[str]) -> ConfigurationError:
    return ConfigurationError("; ".join(problems), reason="INVALID_SETTING")
