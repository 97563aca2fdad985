"""Argument types: how each is parsed, and its error. Imports nothing slow."""

from __future__ import annotations

import json
import re
import sys
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from itertools import chain
from typing import Any, Final

import click

from distributor.cli.sender.text_file import read_text_file
from distributor.model.command import (
    COMMAND_TYPE_PATTERN,
    IDEMPOTENCY_KEY_PATTERN,
    MAX_DURATION_MS,
    MAX_PRIORITY,
    MAX_RUNS,
    NAMED_PRIORITIES,
    REASON_CODE_PATTERN,
    InvalidField,
    check_agent_id,
    check_command_id,
    shown,
)
from distributor.model.json_value import whole_number

_DURATION: Final = re.compile(r"(\d{1,12}(?:\.\d{1,6})?)(ms|s|m|h|d)?", re.ASCII)
_BYTE_ORDER_MARK: Final = "\ufeff"
"""Some editors and shells put it before text."""
_UNIT_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}
_LONGEST_SECONDS: Final = MAX_DURATION_MS / 1000


class ParsedParam(click.ParamType[Any]):
    """A click parameter type from a function; its ValueError becomes the usage error."""

    def __init__(self, name: str, parse: Callable[[str], Any]) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed value; values other than str are already parsed."""
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except InvalidField as error:
            self.fail(str(error).removeprefix(f"{error.field} "), param, ctx)
        except ValueError as error:
            self.fail(str(error), param, ctx)


class JsonObject(ParsedParam):
    """A JSON object, as accepted by `parse_json_object`."""

    def __init__(self) -> None:
        super().__init__("json", parse_json_object)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The parsed object."""
        if value == "-":
            claim_stdin(param, ctx)
        return super().convert(value, param, ctx)


class InputFile(click.File):
    """A file to read bytes from; - is standard input."""

    def __init__(self) -> None:
        super().__init__("rb")

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The open file."""
        if value == "-":
            claim_stdin(param, ctx)
        return super().convert(value, param, ctx)


def claim_stdin(param: click.Parameter | None, ctx: click.Context | None) -> None:
    """Raise UsageError if another option already reads standard input: the second would find it empty."""
    if param is None or ctx is None:
        return
    name = param.opts[0]
    first = ctx.meta.setdefault(f"{__name__}.stdin", [])
    first.append(name)
    if len(first) > 1:
        both = " and ".join(dict.fromkeys(first))
        raise click.UsageError(f"only one of {both} can be standard input")


def parse_duration(text: str) -> float:
    """Seconds from a number with the unit ms, s (the default), m, h or d; 1 ms to 30 days."""
    match = _DURATION.fullmatch(text)
    if match is None:
        raise ValueError(f"must be a duration such as 500ms, 30s, 5m, 2h or 1d, not {shown(text)}")
    seconds = float(match[1]) * _UNIT_SECONDS[match[2] or "s"]
    if not 0.001 <= seconds <= _LONGEST_SECONDS:
        raise ValueError(f"must be 1ms to 30d, not {shown(text)}")
    return seconds


def parse_instant(text: str) -> int:
    """Milliseconds since the epoch from an RFC 3339 time with its zone, or from a duration, meaning that long ago."""
    if _DURATION.fullmatch(text):
        return round((time.time() - parse_duration(text)) * 1000)
    try:
        instant = datetime.fromisoformat(text)
    except ValueError:
        instant = None
    if instant is None or instant.tzinfo is None:
        raise ValueError(f"must be a time such as 2026-01-31T12:00:00Z, or how long ago, such as 2h, not {shown(text)}")
    return round(instant.timestamp() * 1000)


def parse_priority(text: str) -> int:
    """A priority: 0 to 100, or low, normal or high."""
    if text in NAMED_PRIORITIES:
        return NAMED_PRIORITIES[text]
    if not (text.isascii() and text.isdecimal() and len(text) <= 3 and int(text) <= MAX_PRIORITY):
        raise ValueError(f"must be 0 to {MAX_PRIORITY}, low, normal or high, not {shown(text)}")
    return int(text)


def parse_agent_id(text: str) -> str:
    """A valid agent id."""
    check_agent_id(text)
    return text


def parse_command_id(text: str) -> str:
    """A valid command id."""
    check_command_id(text)
    return text


def parse_type(text: str) -> str:
    """A valid command type."""
    if not COMMAND_TYPE_PATTERN.fullmatch(text):
        raise ValueError(f"must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {shown(text)}")
    return text


def parse_idempotency_key(text: str) -> str:
    """A valid idempotency key."""
    if not IDEMPOTENCY_KEY_PATTERN.fullmatch(text):
        raise ValueError("must be 1 to 128 printable ASCII characters without spaces")
    return text


def parse_pair(text: str) -> tuple[str, str]:
    """A (name, value) pair from NAME=VALUE; the value is text and may contain commas and equals signs."""
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise ValueError(f"must be NAME=VALUE, not {shown(text)}")
    return name, value


def parse_runs(text: str) -> tuple[str, int]:
    """A (reason code, number of runs) pair from REASON=N."""
    code, _, number = text.partition("=")
    if not REASON_CODE_PATTERN.fullmatch(code):
        raise ValueError(f"must be REASON=N with a reason such as exit_nonzero, not {shown(text)}")
    if not (number.isascii() and number.isdecimal() and len(number) <= 3 and 1 <= int(number) <= MAX_RUNS):
        raise ValueError(f"must be REASON=N with N from 1 to {MAX_RUNS}, not {shown(text)}")
    return code, int(number)


def parse_json_object(text: str) -> dict[str, Any]:
    """A JSON object given literally, as @FILE, or as - for standard input."""
    if text == "-":
        text = sys.stdin.read()
    elif text.startswith("@"):
        text = read_text_file(text[1:])
    return json_object(text)


def json_object(text: str) -> dict[str, Any]:
    """Parse `text` as a JSON object, skipping a leading byte order mark. Raises ValueError.

    NaN and infinities pass; the check of params refuses them with their path.
    """
    try:
        value = json.loads(
            text.removeprefix(_BYTE_ORDER_MARK), parse_int=whole_number, object_pairs_hook=_without_duplicates
        )
    except json.JSONDecodeError as error:
        raise ValueError(f"is not valid JSON: {error}") from error
    except RecursionError as error:
        raise ValueError("nests too deeply") from error
    if not isinstance(value, dict):
        raise ValueError(f"must be a JSON object, not {shown(text.strip())}")
    return value


def merged_params(pairs: Sequence[tuple[str, str]], objects: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Merge all params of a command. Raises ValueError if a name occurs twice."""
    params: dict[str, Any] = {}
    for name, value in chain(pairs, *(one.items() for one in objects)):
        if name in params:
            raise ValueError(f"the param {shown(name)} is given twice")
        params[name] = value
    return params


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("has a name twice in one object")
    return members


AGENT_ID: Final = ParsedParam("agent id", parse_agent_id)
COMMAND_ID: Final = ParsedParam("command id", parse_command_id)
TYPE: Final = ParsedParam("type", parse_type)
DURATION: Final = ParsedParam("duration", parse_duration)
INSTANT: Final = ParsedParam("time", parse_instant)
PRIORITY: Final = ParsedParam("priority", parse_priority)
IDEMPOTENCY_KEY: Final = ParsedParam("key", parse_idempotency_key)
RUNS: Final = ParsedParam("reason=n", parse_runs)
PAIR: Final = ParsedParam("name=value", parse_pair)
JSON_OBJECT: Final = JsonObject()
INPUT_FILE: Final = InputFile()
