"""Validates a received `Struct` or `Value` as JSON: protobuf carries NaN, infinities and any depth, JSON does not.

Walks the message once without converting it, and builds the path of a fault only when there is one. Text needs no
check: parsers reject invalid UTF-8.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from distributor.model.json_value import step
from distributor.wire.json_values import MAX_DEPTH, NotJson, TooDeep

MAX_PATH_CHARS: Final = 200
"""Maximum number of characters of a path in an error: metadata, which carries it, is small."""


class _Fault(Exception):
    """Propagates from the invalid value and collects the steps of its path, innermost first."""

    def __init__(self, kind: type[NotJson], what: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.what = what
        self.steps: list[str] = []


def check_struct(struct: Struct, path: str) -> None:
    """Raise NotJson or TooDeep if `struct`, the first level, is not JSON. Errors name it by `path`."""
    try:
        _check_struct(struct, MAX_DEPTH)
    except _Fault as fault:
        raise _named(fault, path) from None


def check_value(value: Value, path: str) -> None:
    """Like check_struct, for any value. An object or list counts as the first level."""
    check = _CHECKS.get(value.WhichOneof("kind"))
    if check is None:
        return
    try:
        check(value, MAX_DEPTH)
    except _Fault as fault:
        raise _named(fault, path) from None


def _check_struct(struct: Struct, levels: int) -> None:
    if not levels:
        raise _too_deep()
    fields = struct.fields
    for name in fields:
        value = fields[name]
        check = _CHECKS.get(value.WhichOneof("kind"))
        if check is not None:
            try:
                check(value, levels - 1)
            except _Fault as fault:
                fault.steps.append(step(name))
                raise


def _check_list(values: ListValue, levels: int) -> None:
    if not levels:
        raise _too_deep()
    for index, value in enumerate(values.values):
        check = _CHECKS.get(value.WhichOneof("kind"))
        if check is not None:
            try:
                check(value, levels - 1)
            except _Fault as fault:
                fault.steps.append(f"[{index}]")
                raise


def _check_number(value: Value, _: int) -> None:
    number = value.number_value
    if number - number != 0:  # NaN unless finite
        raise _Fault(NotJson, f"is {number}, which JSON cannot represent")


_CHECKS: Final[dict[Any, Callable[[Value, int], None]]] = {
    "number_value": _check_number,
    "struct_value": lambda value, levels: _check_struct(value.struct_value, levels),
    "list_value": lambda value, levels: _check_list(value.list_value, levels),
}
"""By kind of value. All others are JSON whatever they hold."""


def _too_deep() -> _Fault:
    return _Fault(TooDeep, f"nests deeper than {MAX_DEPTH} levels")


def _named(fault: _Fault, path: str) -> NotJson:
    full = path + "".join(reversed(fault.steps))
    return fault.kind(full if len(full) <= MAX_PATH_CHARS else f"{full[:MAX_PATH_CHARS]}…", fault.what)
