"""JSON text of a google.protobuf.Value, several times faster than json_format, and strict about what JSON can hold."""

from __future__ import annotations

import json
import math

from google.protobuf.json_format import Parse
from google.protobuf.struct_pb2 import Value

Json = None | bool | float | int | str | list["Json"] | dict[str, "Json"]


def to_json(value: Value) -> str:
    """JSON text; whole numbers without a fraction. Raises ValueError for numbers that JSON does not have."""
    return json.dumps(_plain(value), ensure_ascii=False, separators=(",", ":"), allow_nan=False)


def from_json(text: str, value: Value) -> None:
    """Fill `value` from JSON text."""
    Parse(text, value)


def _plain(value: Value) -> Json:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "number_value":
            number = value.number_value
            return int(number) if math.isfinite(number) and number == int(number) and abs(number) < 2**53 else number
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return {name: _plain(member) for name, member in value.struct_value.fields.items()}
        case "list_value":
            return [_plain(member) for member in value.list_value.values]
        case _:
            return None
