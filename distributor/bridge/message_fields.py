"""Validates fields of dashboard messages. All functions raise InvalidArgument that names the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any, Final

from distributor.errors import InvalidArgument
from distributor.model.command import (
    MAX_DURATION_MS,
    MAX_PRIORITY,
    MAX_RUNS,
    MAX_RUNS_BY_REASON,
    NAMED_PRIORITIES,
    REASON_CODE_PATTERN,
    check_agent_id,
    check_command_id,
    shown,
)
from distributor.model.json_pointer import parse_pointers

MAX_ITEMS: Final = 1_000
MIN_SECONDS: Final = 0.001
MAX_SECONDS: Final = MAX_DURATION_MS // 1000

Fields = Mapping[str, Any]


def text(fields: Fields, name: str, *, required: bool = False, max_length: int | None = None) -> str:
    """A text field; empty if absent. At most `max_length` characters."""
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise invalid(name, f"must be text, not {as_json(value)}")
    if required and not value:
        raise invalid(name, "is required", "MISSING_FIELD")
    if max_length is not None and len(value) > max_length:
        raise invalid(name, f"is {len(value):,} characters, the limit is {max_length:,}")
    return value


def mapping(fields: Fields, name: str) -> Mapping[str, Any]:
    """An object field; empty if absent."""
    value = fields.get(name, {})
    if not isinstance(value, dict):
        raise invalid(name, f"must be an object, not {as_json(value)}")
    return value


def items(fields: Fields, name: str) -> list[Any]:
    """A list field of at most MAX_ITEMS; empty if absent."""
    value = fields.get(name, [])
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise invalid(name, f"must be a list of at most {MAX_ITEMS:,}")
    return value


def agent_ids(items: list[Any], field: str) -> tuple[str, ...]:
    """Agent ids. Raises InvalidField for a malformed one."""
    for place, item in enumerate(items):
        if not isinstance(item, str):
            raise invalid(f"{field}[{place}]", f"must be an agent id, not {as_json(item)}")
        check_agent_id(item, f"{field}[{place}]")
    return tuple(items)


def pointers(fields: Fields, name: str) -> tuple[str, ...]:
    """JSON pointers; empty if absent. Raises InvalidField for an invalid one, or too many."""
    given = items(fields, name)
    for place, item in enumerate(given):
        if not isinstance(item, str):
            raise invalid(f"{name}[{place}]", f"must be a JSON pointer, not {as_json(item)}")
    parse_pointers(given, name)
    return tuple(given)


def command_id(value: object, field: str) -> str:
    """A command id. Raises InvalidField if it is malformed."""
    if not isinstance(value, str):
        raise invalid(field, f"must be a command id, not {as_json(value)}")
    check_command_id(value, field)
    return value


def priority(value: object) -> int:
    """A priority given by name or number."""
    if isinstance(value, str) and value in NAMED_PRIORITIES:
        return NAMED_PRIORITIES[value]
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MAX_PRIORITY:
        return value
    raise invalid(
        "priority", f"must be high, normal, low or 0 to {MAX_PRIORITY}, not {as_json(value)}", "PRIORITY_OUT_OF_RANGE"
    )


def seconds(fields: Fields, name: str, reason: str) -> float | None:
    """A number of seconds, MIN_SECONDS to MAX_SECONDS; None if absent. `reason` is the error's reason."""
    value = fields.get(name)
    if value is None:
        return None
    # Compare before converting: a JSON integer may exceed the range of float.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not MIN_SECONDS <= value <= MAX_SECONDS:
        raise invalid(name, f"must be {MIN_SECONDS} to {MAX_SECONDS:,} seconds, not {as_json(value)}", reason)
    return float(value)


def count(fields: Fields, name: str, high: int, reason: str) -> int | None:
    """A whole number from 1 to `high`; None if absent. `reason` is the error's reason."""
    value = fields.get(name)
    return None if value is None else _count(value, name, high, reason)


def runs_by_reason(fields: Fields, name: str) -> Mapping[str, int]:
    """Numbers of runs by reason code; empty if absent."""
    runs = mapping(fields, name)
    if len(runs) > MAX_RUNS_BY_REASON:
        raise invalid(name, f"has {len(runs):,} reasons, the limit is {MAX_RUNS_BY_REASON}", "TOO_MANY_REASONS")
    for code, number in runs.items():
        if not REASON_CODE_PATTERN.fullmatch(code):
            rule = "must name reasons by 1 to 64 of a-z 0-9 _, beginning with a letter"
            raise invalid(name, f"{rule}, not {shown(code)}", "INVALID_REASON_CODE")
        _count(number, f"{name}.{code}", MAX_RUNS, "MAX_RUNS_OUT_OF_RANGE")
    return runs


def _count(value: object, field: str, high: int, reason: str) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= high:
        raise invalid(field, f"must be a whole number from 1 to {high:,}, not {as_json(value)}", reason)
    return value


def invalid(field: str, message: str, reason: str = "INVALID_FIELD") -> InvalidArgument:
    """An error about a field; `message` follows its name."""
    return InvalidArgument(f"{field} {message}", field=field, reason=reason)


def as_json(value: object) -> str:
    """A value as quoted in error messages."""
    try:
        return shown(json.dumps(value))
    except RecursionError:
        return "something nested too deep"
