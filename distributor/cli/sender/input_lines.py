"""Commands from a file with one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import IO, Any, Final

import click

from distributor.cli.sender import arguments
from distributor.model.command import MAX_DURATION_MS, MAX_RUNS, MAX_SLOTS, OfflinePolicy
from distributor.model.json_pointer import parse_pointers

_MIN_SECONDS: Final = 0.001
_MAX_SECONDS: Final = MAX_DURATION_MS // 1000


def read_lines(file: IO[bytes]) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number of each line and the fields of its command; skip blank lines.

    Raises UsageError with the line number and the fault.
    """
    number = 0
    try:
        for line in file:
            number += 1
            if line.strip():
                yield number, _fields(line)
    except ValueError as error:
        raise click.UsageError(f"--input line {number} {error}") from error


def _fields(line: bytes) -> dict[str, Any]:
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        raise ValueError("is not UTF-8") from error
    fields = {}
    for name, value in arguments.json_object(text).items():
        if name not in _NAMES:
            raise ValueError(f"has the unknown name {json.dumps(name)}; known are {', '.join(_NAMES)}")
        field, parse = _NAMES[name]
        try:
            fields[field] = parse(value)
        except ValueError as error:
            # The errors of id checks already begin with the field, those of params with the path in it.
            text = str(error).removeprefix(f"{field} ")
            raise ValueError(text if text.startswith("params") else f"{name} {text}") from error
    return fields


def _text(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    def parse_text(value: object) -> Any:
        if not isinstance(value, str):
            raise ValueError(f"must be text, not {json.dumps(value)}")
        return parse(value)

    return parse_text


def _text_or_number(parse: Callable[[str], Any]) -> Callable[[object], Any]:
    def parse_either(value: object) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            raise ValueError(f"must be text or a number, not {json.dumps(value)}")
        return parse(str(value))

    return parse_either


def _params(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object, not {json.dumps(value)}")
    # Slow to import, and not needed for --help.
    from google.protobuf.struct_pb2 import Struct

    from distributor.wire.json_values import fill_struct

    fill_struct(Struct(), value, "params")
    return value


def _seconds(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"must be a number of seconds, not {json.dumps(value)}")
    if not _MIN_SECONDS <= value <= _MAX_SECONDS:
        raise ValueError(f"must be {_MIN_SECONDS} to {_MAX_SECONDS:,}, not {json.dumps(value)}")
    return value


def _seconds_or_null(value: object) -> float | None:
    """Documents have null for no limit."""
    return None if value is None else _seconds(value)


def _count_to(high: int) -> Callable[[object], int]:
    def parse(value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool):
            raise ValueError(f"must be a whole number, not {json.dumps(value)}")
        if not 1 <= value <= high:
            raise ValueError(f"must be 1 to {high:,}, not {value:,}")
        return value

    return parse


def _runs_by_reason(value: object) -> dict[str, int]:
    if not isinstance(value, dict):
        raise ValueError(f"must be an object with a number for each reason, not {json.dumps(value)}")
    return {reason: _count_to(MAX_RUNS)(runs) for reason, runs in value.items()}


def _pointers(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"must be a list of JSON pointers, not {json.dumps(value)}")
    parse_pointers(value, "secretParams")
    return tuple(value)


def _offline(text: str) -> OfflinePolicy:
    if text not in list(OfflinePolicy):
        raise ValueError(f"must be queue or fail, not {json.dumps(text)}")
    return OfflinePolicy(text)


_NAMES: Final[dict[str, tuple[str, Callable[[object], Any]]]] = {
    "agentId": ("agent_id", _text(arguments.parse_agent_id)),
    "type": ("type", _text(arguments.parse_type)),
    "params": ("params", _params),
    "priority": ("priority", _text_or_number(arguments.parse_priority)),
    "timeLimitSeconds": ("time_limit_seconds", _seconds),
    "idleLimitSeconds": ("idle_limit_seconds", _seconds_or_null),
    "queueTtlSeconds": ("queue_ttl_seconds", _seconds),
    "offline": ("offline", _text(_offline)),
    "maxRuns": ("max_runs", _count_to(MAX_RUNS)),
    "maxRunsByReason": ("max_runs_by_reason", _runs_by_reason),
    "slots": ("slots", _count_to(MAX_SLOTS)),
    "secretParams": ("secret_params", _pointers),
    "idempotencyKey": ("idempotency_key", _text(arguments.parse_idempotency_key)),
}
