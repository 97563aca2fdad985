"""Converts plain JSON values to and from `google.protobuf` messages without silent loss.

Hand-written because `google.protobuf.json_format` is several times slower and would dominate the cost of a short
command. Errors name the path of an invalid value: `command.params.a[3] is a set, which is not JSON`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from distributor.model.json_value import JsonValue, step

MAX_DEPTH: Final = 32
"""Maximum nesting of lists and objects. A level takes up to three messages, and parsers stop at 100."""

MAX_EXACT_INT: Final = 2**53
"""Numbers travel as 64-bit floats, which round larger integers."""

_MAX_MESSAGES: Final = 100
"""Nesting limit of parsers: no received message nests deeper."""


class NotJson(ValueError):
    """A value that JSON cannot represent. `path` is its path, and `str()` one sentence that begins with it."""

    def __init__(self, path: str, what: str) -> None:
        super().__init__(f"{path} {what}")
        self.path = path


class TooDeep(NotJson):
    """Objects or lists nest deeper than MAX_DEPTH."""


def fill_value(target: Value, value: object, path: str) -> None:
    """Write `value` into `target`. Errors name it by `path`. Raises NotJson and leaves `target` half filled."""
    _fill_value(target, value, path, MAX_DEPTH)


def fill_struct(target: Struct, items: Mapping[str, object], path: str) -> None:
    """Write `items` into `target`. Errors name it by `path`. Raises NotJson and leaves `target` half filled."""
    _fill_struct(target, items, path, MAX_DEPTH)


def plain_value(value: Value) -> JsonValue:
    """Return the plain value of a message; None if unset."""
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        return _plain_number(value.number_value)
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return plain_struct(value.struct_value)
    if kind == "list_value":
        return [plain_value(item) for item in value.list_value.values]
    return None


def plain_struct(struct: Struct) -> dict[str, JsonValue]:
    """Return the plain values of a message by name, sorted: the wire format has no order."""
    return {name: plain_value(value) for name, value in sorted(struct.fields.items())}


def json_text(value: object, path: str) -> str:
    """Encode `value` as compact JSON text, valid as UTF-8. Raises NotJson for what JSON cannot represent."""
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _fault(value, path, error) from error
    return text


def fill_received(target: Value, value: JsonValue) -> None:
    """Write a received value into `target`. Unlike `fill_value`, accepts any depth that a parser accepts."""
    _fill_value(target, value, "value", _MAX_MESSAGES)


def rough_size(value: JsonValue, limit: int) -> int:
    """Estimate the size of `value` as JSON text, in bytes. Stops once the estimate exceeds `limit`."""
    size, pending = 0, [value]
    while pending and size <= limit:
        item = pending.pop()
        size += 2
        if isinstance(item, str):
            size += len(item)
        elif isinstance(item, Mapping):
            size += sum(map(len, item))
            pending += item.values()
        elif isinstance(item, Sequence):
            pending += item
    return size


def _fill_value(target: Value, value: object, path: str, levels: int) -> None:
    if isinstance(value, str):
        _fill_text(target, value, path)
    elif value is None:
        target.null_value = NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = _wire_number(value, path)
    elif isinstance(value, dict | Mapping):  # dict first: the Mapping check is slow
        _fill_struct(target.struct_value, value, path, levels)
    elif isinstance(value, list | tuple):
        _fill_list(target.list_value, value, path, levels)
    else:
        raise NotJson(path, f"is a {type(value).__name__}, which is not JSON")


def _fill_struct(target: Struct, items: Mapping[Any, object], path: str, levels: int) -> None:
    if not levels:
        raise _too_deep(path)
    target.SetInParent()
    fields = target.fields
    for name, item in items.items():
        if not isinstance(name, str):
            raise NotJson(path, f"has a name of type {type(name).__name__}, names must be text")
        try:
            field = fields[name]
        except ValueError as error:
            raise NotJson(path, "has a name that is not valid Unicode") from error
        _fill_value(field, item, path + step(name), levels - 1)


def _fill_list(target: ListValue, items: Sequence[object], path: str, levels: int) -> None:
    if not levels:
        raise _too_deep(path)
    target.SetInParent()
    values = target.values
    for index, item in enumerate(items):
        _fill_value(values.add(), item, f"{path}[{index}]", levels - 1)


def _fill_text(target: Value, text: str, path: str) -> None:
    try:
        target.string_value = text
    except ValueError as error:
        raise NotJson(path, "is not valid Unicode text") from error


def _wire_number(number: int | float, path: str) -> float:
    if isinstance(number, int) and not -MAX_EXACT_INT <= number <= MAX_EXACT_INT:
        raise NotJson(path, "is an integer beyond ±2^53, which would be rounded: send it as text")
    if not math.isfinite(number):
        raise NotJson(path, f"is {number}, which JSON cannot represent")
    return float(number)


def _plain_number(number: float) -> int | float:
    if not number.is_integer() or abs(number) > MAX_EXACT_INT:
        return number
    # An integer has no negative zero.
    return int(number) or (number if math.copysign(1, number) < 0 else 0)


def _too_deep(path: str) -> TooDeep:
    return TooDeep(path, f"nests deeper than {MAX_DEPTH} levels")


def _fault(value: object, path: str, error: Exception) -> NotJson:
    """Find why `value` is not JSON. The encoder does not say where; filling a message does."""
    try:
        _fill_value(Value(), value, path, _MAX_MESSAGES)
    except NotJson as fault:
        return fault
    return NotJson(path, f"is not JSON: {error}")


def _mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it contains a {type(value).__name__}")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_mapping)
