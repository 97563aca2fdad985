"""Contexts: the servers that a user calls, each with the credentials for it, in a file of the user's own.

    current = "srv1"

    [contexts."srv1"]
    server = "srv1:50051"
    tls_ca = "/home/ada/ca.pem"
    token = "eyJ…"

The keys of a context are settings of callers. Commands that change the file read it again under a lock.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from distributor.environment import config_folder
from distributor.errors import ConfigurationError, NotFound
from distributor.private_file import PrivateFile
from distributor.settings.values import split_address

FILE_NAME: Final = "contexts.toml"
REASON: Final = "INVALID_SETTING"
_HEAD: Final = "# Written by command-sender login. It holds credentials: keep it private."
_NAME: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_CONTROLS: Final = re.compile(r"[\x7f]")


@dataclass(frozen=True, slots=True)
class Context:
    """A server, or several that share a Valkey, and the credentials for it.

    The fields after the name are settings of callers: see `ClientSettings`.
    """

    name: str
    server: str
    tls: bool = False
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None
    insecure: bool = False
    token: str = field(default="", repr=False)

    def settings(self) -> dict[str, Any]:
        """Return the settings that the context has."""
        values = {name: getattr(self, name) for name in CONTEXT_SETTINGS}
        return {name: value for name, value in values.items() if value not in (None, False, "")}


CONTEXT_SETTINGS: Final = tuple(one.name for one in fields(Context) if one.name != "name")
_PATHS: Final = ("tls_ca", "tls_cert", "tls_key")
_FLAGS: Final = ("tls", "insecure")


@dataclass(frozen=True, slots=True)
class Contexts:
    """All contexts by name, and which one is current, if any."""

    current: str = ""
    by_name: Mapping[str, Context] = field(default_factory=dict)

    def named(self, name: str) -> Context:
        """Return a context. Raises NotFound."""
        if name not in self.by_name:
            known = ", ".join(sorted(self.by_name)) or "none yet; make one with command-sender login"
            raise NotFound(f"there is no context {name!r}; known: {known}")
        return self.by_name[name]

    def chosen(self) -> Context | None:
        """Return the current context."""
        return self.by_name.get(self.current)

    def with_context(self, context: Context, *, use: bool) -> Contexts:
        """Return these with one added, or replaced if it has the same name."""
        current = context.name if use or self.chosen() is None else self.current
        return Contexts(current, {**self.by_name, context.name: context})

    def without(self, name: str) -> Contexts:
        """Return these without one. Raises NotFound."""
        self.named(name)
        return Contexts(
            "" if name == self.current else self.current,
            {other: context for other, context in self.by_name.items() if other != name},
        )

    def using(self, name: str) -> Contexts:
        """Return these with another current one. Raises NotFound."""
        return Contexts(self.named(name).name, self.by_name)


def contexts_path() -> Path:
    """Return where the contexts are: `contexts.toml` in our folder of the user's configuration."""
    return config_folder() / FILE_NAME


def read_contexts() -> Contexts:
    """Read the contexts. Raises ConfigurationError for a file that is not valid, not ours, or open to others."""
    return _read(_file())


def change_contexts(change: Callable[[Contexts], Contexts]) -> Contexts:
    """Replace the contexts by what `change` returns, and return them. Raises what it raises, and ConfigurationError."""
    file = _file()
    with file.locked():
        changed = change(_read(file))
        file.replace(_text(changed).encode())
    return changed


def store_context(context: Context, *, use: bool = False) -> Contexts:
    """Store a context in place of any of the same name. It becomes current with `use`, or if none is.

    Raises ConfigurationError.
    """
    check_context_name(context.name)
    return change_contexts(lambda contexts: contexts.with_context(context, use=use))


def check_context_name(name: str) -> None:
    """Raise ConfigurationError for a name that no context can have."""
    if not _NAME.fullmatch(name):
        raise ConfigurationError(
            f"the name of a context must be a letter or digit and up to 63 of A-Z a-z 0-9 . _ -, not {name!r}",
            reason=REASON,
        )


def context_name_of(server: str) -> str:
    """Return a name for the context of `server`: its first host, without the characters that no name may have."""
    host, _ = split_address(server.partition(",")[0].strip())
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", host).lstrip("._-")[:64]
    return name or "default"


def _file() -> PrivateFile:
    return PrivateFile(contexts_path(), reason=REASON)


def _read(file: PrivateFile) -> Contexts:
    text = file.read()
    if text is None:
        return Contexts()
    try:
        document = tomllib.loads(text)
    except ValueError as error:
        # Its message may quote a token.
        raise _invalid(file, "it is not valid TOML") from error
    tables = document.get("contexts", {})
    current = document.get("current", "")
    if not isinstance(tables, dict) or not isinstance(current, str) or document.keys() - {"current", "contexts"}:
        raise _invalid(file, "it must have current = NAME and tables [contexts.NAME] only")
    return Contexts(current, {name: _context(file, name, table) for name, table in tables.items()})


def _context(file: PrivateFile, name: str, table: object) -> Context:
    where = f"[contexts.{name!r}]"
    if not _NAME.fullmatch(name) or not isinstance(table, dict):
        raise _invalid(file, f"{where} is not a context")
    values: dict[str, Any] = {}
    for key, value in table.items():
        if key not in CONTEXT_SETTINGS:
            raise _invalid(file, f"{where} has an unknown key {key!r}")
        if not isinstance(value, bool if key in _FLAGS else str):
            raise _invalid(file, f"{key} in {where} is of the wrong type")
        values[key] = Path(str(value)) if key in _PATHS else value
    if "server" not in values:
        raise _invalid(file, f"{where} has no server")
    return Context(name, **values)


def _invalid(file: PrivateFile, why: str) -> ConfigurationError:
    return ConfigurationError(f"cannot use {file.path}: {why}; correct it or remove it", reason=REASON)


def _text(contexts: Contexts) -> str:
    lines = [_HEAD, f"current = {_string(contexts.current)}"]
    for name in sorted(contexts.by_name):
        lines += ["", f"[contexts.{_string(name)}]"]
        for key, value in contexts.by_name[name].settings().items():
            lines.append(f"{key} = {'true' if value is True else _string(str(value))}")
    return "\n".join(lines) + "\n"


def _string(text: str) -> str:
    """A basic string of TOML. It escapes as JSON does, and DEL as well."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ConfigurationError(f"{text!r} is not UTF-8, so no context can hold it", reason=REASON) from error
    return _CONTROLS.sub(r"\\u007f", json.dumps(text, ensure_ascii=False))
