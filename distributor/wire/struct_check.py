"""What a received `Struct` or `Value` may hold: protobuf carries NaN, infinities and any depth, JSON does not.

One walk over the message, without making plain values of it; the place of a fault is put together only once there is
one. Text needs no look: parsers refuse what is not UTF-8.
"""

from __future__ import annotations

from typing import Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from distributor.wire.json_values import MAX_DEPTH, NotJson, step

MAX_PLACE: Final = 200
"""Characters of a place that an error repeats: it travels in metadata, which has little room."""


class TooDeep(NotJson):
    """Objects and lists nest deeper than MAX_DEPTH."""


class _Fault(Exception):
    """Rises from the value at fault and collects, inmost first, the steps that lead to it."""

    def __init__(self, kind: type[NotJson], what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.steps: list[str] = []


def check_struct(struct: Struct, place: str) -> None:
    """Raise NotJson, or TooDeep, for what JSON cannot say; `place` is what an error calls `struct`, the first level."""
    try:
        _check_struct(struct, MAX_DEPTH)
    except _Fault as fault:
        raise _named(fault, place) from None


def check_value(value: Value, place: str) -> None:
    """As check_struct, for any value: one that is an object or a list is the first level itself."""
    try:
        _check_value(value, MAX_DEPTH)
    except _Fault as fault:
        raise _named(fault, place) from None


def _check_struct(struct: Struct, levels: int) -> None:
    if not levels:
        raise _too_deep()
    for name, value in struct.fields.items():
        try:
            _check_value(value, levels - 1)
        except _Fault as fault:
            fault.steps.append(step(name))
            raise


def _check_list(values: ListValue, levels: int) -> None:
    if not levels:
        raise _too_deep()
    for index, value in enumerate(values.values):
        try:
            _check_value(value, levels - 1)
        except _Fault as fault:
            fault.steps.append(f"[{index}]")
            raise


def _check_value(value: Value, levels: int) -> None:
    kind = value.WhichOneof("kind")
    if kind == "number_value":
        number = value.number_value
        if number - number != 0:  # of what is not finite: nan
            raise _Fault(NotJson, f"is {number}, which JSON has no number for")
    elif kind == "struct_value":
        _check_struct(value.struct_value, levels)
    elif kind == "list_value":
        _check_list(value.list_value, levels)


def _too_deep() -> _Fault:
    return _Fault(TooDeep, f"nests deeper than {MAX_DEPTH} levels")


def _named(fault: _Fault, place: str) -> NotJson:
    full = place + "".join(reversed(fault.steps))
    return fault.kind(full if len(full) <= MAX_PLACE else f"{full[:MAX_PLACE]}…", fault.what)
