"""The text of a policy file, with the line of each key."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import tomllib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

from distributor.errors import ConfigurationError

MAX_FILE_BYTES: Final = 1_048_576


FileStamp: TypeAlias = tuple[int, int, int]
"""What changes with the content of a file."""


def stamp_of(status: os.stat_result) -> FileStamp:
    """The stamp of a file."""
    return status.st_mtime_ns, status.st_size, status.st_ino


class PolicyText:
    """The parsed text of a policy file, which knows the line of each key."""

    def __init__(self, path: Path) -> None:
        """Raises ConfigurationError if the file cannot be read, or is not TOML."""
        self.path = path
        self.files: list[tuple[Path, FileStamp]] = []
        """All that was read, schema files too, and the stamp of each when it was read."""
        self._read: list[bytes] = []
        self._lines: list[str] = []
        content = self.read(path)
        try:
            self._lines = content.decode("utf-8-sig").splitlines()
            self.content: dict[str, Any] = tomllib.loads("\n".join(self._lines))
        except (ValueError, RecursionError) as error:
            raise _error(f"the policy file {path} is not valid TOML: {error}") from error

    @property
    def digest(self) -> str:
        """Identifies the content of everything that was read."""
        return hashlib.sha256(b"\0".join(hashlib.sha256(one).digest() for one in self._read)).hexdigest()

    def read(self, path: Path) -> bytes:
        """Read a file that is part of the policy. Raises ConfigurationError."""
        try:
            with path.open("rb") as file:
                self.files.append((path, stamp_of(os.fstat(file.fileno()))))
                content = file.read(MAX_FILE_BYTES + 1)
        except OSError as error:
            raise _error(f"cannot read the policy file {path}: {error.strerror}") from error
        if len(content) > MAX_FILE_BYTES:
            raise _error(f"the policy file {path} must be at most {MAX_FILE_BYTES:,} bytes")
        self._read.append(content)
        return content

    def tables(self, kind: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """Yield name and content of each table [kind.NAME]. Raises ConfigurationError for what is not a table."""
        tables = self.content.get(kind, {})
        if not isinstance(tables, dict):
            self.refuse(kind, "", f"must be tables [{kind}.NAME]")
        for name, table in tables.items():
            if not isinstance(table, dict):
                self.refuse(kind, name, f"must be a table [{kind}.{name}]")
            yield name, table

    def check_keys(self, table: str, content: Mapping[str, Any], known: Collection[str]) -> None:
        """Raise ConfigurationError for a key that is not known."""
        for key in content:
            if key not in known:
                near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
                hint = f"; did you mean {near[0]}?" if near else f"; known are {', '.join(known)}"
                self.refuse(table, key, f"is unknown{hint}")

    def text_list(self, table: str, content: Mapping[str, Any], key: str) -> tuple[str, ...]:
        """The value of a key that is a list of texts; empty without it. Raises ConfigurationError."""
        value = content.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self.refuse(table, key, 'must be a list of texts, such as ["web-*"]')
        if key in content and not value:
            self.refuse(table, key, "must not be empty: leave it out to permit all")
        return tuple(value)

    def text_table(self, table: str, content: Mapping[str, Any], key: str) -> dict[str, str]:
        """The value of a key that is a table of texts; empty without it. Raises ConfigurationError."""
        value = content.get(key, {})
        if not isinstance(value, dict) or not all(isinstance(item, str) for item in value.values()):
            self.refuse(table, key, 'must be a table of texts, such as { env = "prod" }')
        return value

    def refuse(self, table: str, key: str, problem: str) -> NoReturn:
        """Raise ConfigurationError about a key of a table, both possibly empty."""
        line = self._line(table, key)
        place = f"{self.path}, line {line}" if line else str(self.path)
        name = f"[{table}] {key}" if table and key else f"[{table}]" if table else key
        raise _error(f"policy file {place}: {name} {problem}")

    def _line(self, table: str, key: str) -> int:
        """The line of a key; that of its table if the key is written in another way; 0 if neither is found."""
        # The name of a type may have dots: it is quoted in the file.
        names = table.split(".", 1) if table else []
        header, nested = _header(*names), _header(*names, key, within=not table)
        entry = re.compile(rf"\s*{_quoted(key)}\s*=")
        found, inside = 0, not table
        for number, line in enumerate(self._lines, 1):
            if line.lstrip().startswith("["):
                if key and nested.match(line):
                    return number
                inside = bool(header.match(line))
                found = number if inside else found
            elif key and inside and entry.match(line):
                return number
        return found


def json_file(text: PolicyText, name: str) -> Any:
    """The content of a JSON file beside the policy file. Raises ValueError that says what is wrong."""
    path = (text.path.parent / name).resolve()
    try:
        return json.loads(text.read(path).decode("utf-8-sig"))
    except ConfigurationError as error:
        raise ValueError(error.message) from error
    except (ValueError, RecursionError) as error:
        raise ValueError(f"the file {path} is not valid JSON: {error}") from error


def _header(*names: str, within: bool = False) -> re.Pattern[str]:
    """Match the header of a table, or of one `within` it."""
    return re.compile(r"\s*\[\s*" + r"\s*\.\s*".join(map(_quoted, names)) + (r"\s*[.\]]" if within else r"\s*\]"))


def _quoted(key: str) -> str:
    return rf"[\"']?{re.escape(key)}[\"']?"


def _error(problem: str) -> ConfigurationError:
    return ConfigurationError(problem, reason="INVALID_POLICY")
