"""Plain JSON values to and from the `google.protobuf` messages that carry them, without losing anything silently.

Written by hand because `google.protobuf.json_format` costs several times as much, more than the rest of an instant
command. What cannot travel is refused with its place: `command.params.a[3] is a set, which is not JSON`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from google.protobuf.struct_pb2 import NULL_VALUE, ListValue, Struct, Value

from distributor.model.json_value import JsonValue

MAX_DEPTH: Final = 32
"""How deep lists and objects may nest. A level costs up to three messages, and parsers stop at 100."""

MAX_EXACT_INT: Final = 2**53
"""Numbers travel as 64-bit floats: whole ones beyond this would be rounded."""

_MAX_MESSAGES: Final = 100
"""As deep as parsers go: nothing that was received nests deeper."""

_MAX_NAME: Final = 40
"""Characters of a name that an error repeats."""


class NotJson(ValueError):
    """A value that cannot travel. `place` is where it stands, `str()` one sentence that begins with it."""

    def __init__(self, place: str, what: str) -> None:
        super().__init__(f"{place} {what}")
        self.place = place


def fill_value(target: Value, value: object, place: str) -> None:
    """Write `value` into `target`; `place` is what an error calls it. Raises NotJson, leaving `target` half filled."""
    _fill_value(target, value, place, MAX_DEPTH)


def fill_struct(target: Struct, items: Mapping[str, object], place: str) -> None:
    """Write `items` into `target`; `place` is what an error calls them. Raises NotJson as fill_value does."""
    _fill_struct(target, items, place, MAX_DEPTH)


def plain_value(value: Value) -> JsonValue:
    """The plain value of a message; unset is None."""
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
    """The plain values of a message by name, the names sorted: the wire keeps no order."""
    return {name: plain_value(value) for name, value in sorted(struct.fields.items())}


def json_text(value: object, place: str) -> str:
    """`value` as compact JSON text that encodes as UTF-8. Raises NotJson for what JSON does not have."""
    try:
        text = _ENCODER.encode(value)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _fault(value, place, error) from error
    return text


def fill_received(target: Value, value: JsonValue) -> None:
    """Write a value that came over the wire into `target`: it may nest deeper than what `fill_value` takes."""
    _fill_value(target, value, "value", _MAX_MESSAGES)


def rough_size(value: JsonValue, most: int) -> int:
    """About how many bytes `value` takes as JSON text; looks no further once that is over `most`."""
    size, pending = 0, [value]
    while pending and size <= most:
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


def _fill_value(target: Value, value: object, place: str, levels: int) -> None:
    if isinstance(value, str):
        _fill_text(target, value, place)
    elif value is None:
        target.null_value = NULL_VALUE
    elif isinstance(value, bool):
        target.bool_value = value
    elif isinstance(value, int | float):
        target.number_value = _wire_number(value, place)
    elif isinstance(value, dict | Mapping):  # dict first: asking whether it is a Mapping is slow
        _fill_struct(target.struct_value, value, place, levels)
    elif isinstance(value, list | tuple):
        _fill_list(target.list_value, value, place, levels)
    else:
        raise NotJson(place, f"is a {type(value).__name__}, which is not JSON")


def _fill_struct(target: Struct, items: Mapping[Any, object], place: str, levels: int) -> None:
    if not levels:
        raise _too_deep(place)
    target.SetInParent()
    fields = target.fields
    for name, item in items.items():
        if not isinstance(name, str):
            raise NotJson(place, f"has a name of type {type(name).__name__}, names must be text")
        try:
            field = fields[name]
        except ValueError as error:
            raise NotJson(place, "has a name that is not valid Unicode") from error
        _fill_value(field, item, place + step(name), levels - 1)


def _fill_list(target: ListValue, items: Sequence[object], place: str, levels: int) -> None:
    if not levels:
        raise _too_deep(place)
    target.SetInParent()
    values = target.values
    for index, item in enumerate(items):
        _fill_value(values.add(), item, f"{place}[{index}]", levels - 1)


def step(name: str) -> str:
    """`name` as a step of a place: in quotes, and cut, where it is no plain word. Places go into logs and terminals."""
    return f".{name}" if name.isidentifier() and len(name) <= _MAX_NAME else f"[{name[:_MAX_NAME]!a}]"


def _fill_text(target: Value, text: str, place: str) -> None:
    try:
        target.string_value = text
    except ValueError as error:
        raise NotJson(place, "is not valid Unicode text") from error


def _wire_number(number: int | float, place: str) -> float:
    if isinstance(number, int) and not -MAX_EXACT_INT <= number <= MAX_EXACT_INT:
        raise NotJson(place, "is a whole number beyond ±2^53, which would be rounded: send it as text")
    if not math.isfinite(number):
        raise NotJson(place, f"is {number}, which JSON has no number for")
    return float(number)


def _plain_number(number: float) -> int | float:
    if not number.is_integer() or abs(number) > MAX_EXACT_INT:
        return number
    # An integer has no negative zero.
    return int(number) or (number if math.copysign(1, number) < 0 else 0)


def _too_deep(place: str) -> NotJson:
    return NotJson(place, f"nests deeper than {MAX_DEPTH} levels")


def _fault(value: object, place: str, error: Exception) -> NotJson:
    """What keeps `value` from being JSON. The encoder does not say where, filling a message does."""
    try:
        _fill_value(Value(), value, place, _MAX_MESSAGES)
    except NotJson as fault:
        return fault
    return NotJson(place, f"is not JSON: {error}")


def _mapping(value: object) -> dict[object, object]:
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"it holds a {type(value).__name__}")


_ENCODER: Final = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"), default=_mapping)
