"""Plain JSON values to and from `google.protobuf.Value`, without losing anything silently."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from google.protobuf.struct_pb2 import ListValue, NullValue, Struct, Value

from distributor.client.values import JsonValue
from distributor.errors import InvalidArgument

MAX_EXACT_INT = 2**53
"""JSON numbers on the wire are 64-bit floats: whole numbers beyond this would be rounded."""

MAX_DEPTH = 32
"""How deep values may nest. A level costs three on the wire, where parsers stop at 100."""


def struct_of(params: Mapping[str, JsonValue], field: str) -> Struct:
    """`params` as a wire message. Raises InvalidArgument naming the place below `field` that is not JSON."""
    return _struct(params, field, 1)


def plain_struct(struct: Struct) -> dict[str, JsonValue]:
    """The plain value of a wire message, its names in order: the wire keeps none."""
    return {name: plain_value(value) for name, value in sorted(struct.fields.items())}


def plain_value(value: Value) -> JsonValue:
    """The plain value of one wire value; unset is None."""
    match value.WhichOneof("kind"):
        case "number_value":
            return _plain_number(value.number_value)
        case "string_value":
            return value.string_value
        case "bool_value":
            return value.bool_value
        case "struct_value":
            return plain_struct(value.struct_value)
        case "list_value":
            return [plain_value(item) for item in value.list_value.values]
        case _:
            return None


def _struct(items: Mapping[str, JsonValue], place: str, depth: int) -> Struct:
    if depth > MAX_DEPTH:
        raise _not_json(place, f"nests deeper than {MAX_DEPTH} levels")
    for name in items:
        if not isinstance(name, str):
            raise _not_json(place, f"has the name {name!r}, which is not text")
    return Struct(fields={name: _value(item, f"{place}.{name}", depth) for name, item in items.items()})


def _list(items: Sequence[JsonValue], place: str, depth: int) -> ListValue:
    if depth > MAX_DEPTH:
        raise _not_json(place, f"nests deeper than {MAX_DEPTH} levels")
    return ListValue(values=[_value(item, f"{place}[{index}]", depth) for index, item in enumerate(items)])


def _value(item: JsonValue, place: str, depth: int) -> Value:
    match item:
        case None:
            return Value(null_value=NullValue.NULL_VALUE)
        case bool():
            return Value(bool_value=item)
        case int() | float():
            return Value(number_value=_wire_number(item, place))
        case str():
            return Value(string_value=_wire_text(item, place))
        case Mapping():
            return Value(struct_value=_struct(item, place, depth + 1))
        case list() | tuple():
            return Value(list_value=_list(item, place, depth + 1))
        case _:
            raise _not_json(place, f"is a {type(item).__name__}, which is not JSON")


def _wire_number(number: int | float, place: str) -> float:
    if isinstance(number, int) and abs(number) > MAX_EXACT_INT:
        raise _not_json(place, f"is {number}, beyond ±{MAX_EXACT_INT:,} numbers are rounded: send it as text")
    if not math.isfinite(number):
        raise _not_json(place, f"is {number}, which JSON has no number for")
    return float(number)


def _wire_text(text: str, place: str) -> str:
    if not text.isascii() and any("\ud800" <= character <= "\udfff" for character in text):
        raise _not_json(place, "is not valid Unicode text")
    return text


def _plain_number(number: float) -> int | float:
    return int(number) if number.is_integer() and abs(number) <= MAX_EXACT_INT else number


def _not_json(place: str, what: str) -> InvalidArgument:
    return InvalidArgument(f"{place} {what}", reason="INVALID_PARAMS", field=place)
