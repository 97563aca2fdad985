"""JSON values to and from the protobuf messages that carry them.

Written by hand because `google.protobuf.json_format` costs tens of microseconds a message, which is more than the
rest of an instant command.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Final

from google.protobuf import struct_pb2

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""What a handler may return; tuples and other mappings are taken as lists and objects."""

MAX_DEPTH: Final = 30
"""Each level takes up to three nested messages, and parsers stop at one hundred."""

MAX_EXACT_INTEGER: Final = 2**53
"""Numbers travel as 64-bit floats."""


class UnfitValue(ValueError):
    """A value that has no JSON form. `str(error)` says where and why."""


def struct_to_dict(struct: struct_pb2.Struct) -> dict[str, JsonValue]:
    """`struct` as plain values; whole numbers become `int`."""
    return {name: _plain(value) for name, value in struct.fields.items()}


def json_size(value: object) -> int:
    """Bytes of `value` as compact JSON. Raises UnfitValue if it has no JSON form."""
    try:
        text = json.dumps(value, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
        return len(text.encode())
    except (TypeError, ValueError, RecursionError) as error:
        raise UnfitValue(f"the handler's value is not JSON: {error}") from error


def fill_value(target: struct_pb2.Value, value: object, depth: int = 0) -> None:
    """Write `value` into `target`. Raises UnfitValue for what JSON or the protocol cannot carry."""
    if depth > MAX_DEPTH:
        raise UnfitValue(f"the handler's value is nested more than {MAX_DEPTH} deep")
    if value is None:
        target.null_value = struct_pb2.NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, str):
        target.string_value = value
    elif isinstance(value, int | float):
        target.number_value = _number(value)
    elif isinstance(value, Mapping):
        target.struct_value.SetInParent()
        for name, item in value.items():
            fill_value(target.struct_value.fields[_name(name)], item, depth + 1)
    elif isinstance(value, list | tuple):
        target.list_value.SetInParent()
        for item in value:
            fill_value(target.list_value.values.add(), item, depth + 1)
    else:
        raise UnfitValue(f"the handler's value is not JSON: it holds a {type(value).__name__}")


def _number(value: int | float) -> float:
    if isinstance(value, int) and abs(value) > MAX_EXACT_INTEGER:
        raise UnfitValue("the handler's value holds an integer beyond ±2^53, which would be rounded: return it as text")
    return float(value)


def _name(name: object) -> str:
    if not isinstance(name, str):
        raise UnfitValue(f"the handler's value is not JSON: an object's name is a {type(name).__name__}")
    return name


def _plain(value: struct_pb2.Value) -> JsonValue:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return value.string_value
    if kind == "number_value":
        number = value.number_value
        return int(number) if number.is_integer() and abs(number) <= MAX_EXACT_INTEGER else number
    if kind == "bool_value":
        return value.bool_value
    if kind == "struct_value":
        return struct_to_dict(value.struct_value)
    if kind == "list_value":
        return [_plain(item) for item in value.list_value.values]
    return None
