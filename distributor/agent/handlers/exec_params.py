"""Reads and checks the params of EXEC."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Final, NamedTuple

from distributor.agent.command_context import CommandFailed
from distributor.model.json_value import JsonValue

INHERITED: Final = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LC_ALL", "LC_CTYPE", "TZ", "TMPDIR")
"""Variables that programs inherit from the agent. No others, because they may contain secrets."""

_NAMES: Final = ("argv", "env", "cwd", "stdin")
_LOADER_PREFIXES: Final = ("LD_", "DYLD_")


class ExecParams(NamedTuple):
    """The params of EXEC. argv is not empty; env is added to the inherited variables; stdin is UTF-8 or None."""

    argv: tuple[str, ...]
    env: dict[str, str]
    cwd: str | None
    stdin: bytes | None


def read_params(params: Mapping[str, JsonValue], guarded: bool) -> ExecParams:
    """Check `params`. Raises CommandFailed with `invalid_params`, naming the param.

    If `guarded` (there is an allow-list), refuses variables that make the loader run other code.
    """
    for name in params:
        if name not in _NAMES:
            raise _invalid(name, f"is not known, EXEC takes {', '.join(_NAMES)}")
    stdin = params.get("stdin")
    if stdin is not None and not isinstance(stdin, str):
        raise _invalid("stdin", "must be text")
    return ExecParams(
        argv=_argv(params.get("argv")),
        env=_env(params.get("env"), guarded),
        cwd=_cwd(params.get("cwd")),
        stdin=None if stdin is None else stdin.encode(),
    )


def _argv(value: JsonValue) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        raise _invalid("argv", "must be a list of at least one word")
    words = tuple(_text(f"argv[{index}]", word) for index, word in enumerate(value))
    if not words[0]:
        raise _invalid("argv[0]", "must name a program")
    return words


def _env(value: JsonValue, guarded: bool) -> dict[str, str]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise _invalid("env", "must be an object of names and texts")
    for name in value:
        if not name or "=" in name or "\0" in name:
            raise _invalid("env", "has a name that is empty or holds = or NUL")
        if guarded and name.startswith(_LOADER_PREFIXES):
            raise _invalid(f"env.{name}", "may not be set where only some programs are allowed")
    return {name: _text(f"env.{name}", text) for name, text in value.items()}


def _cwd(value: JsonValue) -> str | None:
    if value is None:
        return None
    path = _text("cwd", value)
    if not os.path.isdir(path):
        raise _invalid("cwd", "must be a directory on this host")
    return path


def _text(name: str, value: JsonValue) -> str:
    if not isinstance(value, str):
        raise _invalid(name, "must be text")
    if "\0" in value:
        raise _invalid(name, "must not hold a NUL character")
    return value


def _invalid(name: str, rule: str) -> CommandFailed:
    return CommandFailed("invalid_params", f"params.{name} {rule}")
