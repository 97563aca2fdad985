"""Messages with values that no sane peer sends, for Hypothesis."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from hypothesis import strategies as st

UNKNOWN_FIELD: Final = b"\xa2\x06\x03new"
LARGEST_DEPTH: Final = 4

ODD_TEXTS: Final = ("", "a", "\x00", "\u202e", "\x1b[2J", "x" * 65, "x" * 5_000, "Not Snake")
ODD_VALUES: Final[dict[int, tuple[Any, ...]]] = {
    FieldDescriptor.CPPTYPE_INT32: (0, 1, -1, 2**31 - 1, -(2**31), 1_001),
    FieldDescriptor.CPPTYPE_INT64: (0, 1, -1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63)),
    FieldDescriptor.CPPTYPE_UINT32: (0, 1, 2**32 - 1),
    FieldDescriptor.CPPTYPE_UINT64: (0, 1, 2, 2**64 - 1),
    FieldDescriptor.CPPTYPE_DOUBLE: (0.0, -0.0, 1.5, math.nan, math.inf, -math.inf, 1e308),
    FieldDescriptor.CPPTYPE_BOOL: (False, True),
    FieldDescriptor.CPPTYPE_ENUM: (0, 1, 2, 3, 99, -1, 2**31 - 1),
}
_TEXT: Final = st.sampled_from(ODD_TEXTS)


def odd_messages(kind: type[Message]) -> st.SearchStrategy[Any]:
    """Messages of a type with any of its fields set, to any values, and sometimes fields that it does not have."""
    return st.tuples(_messages(kind.DESCRIPTOR, LARGEST_DEPTH), st.sampled_from([b"", UNKNOWN_FIELD])).map(
        lambda pair: kind.FromString(pair[0].SerializeToString() + pair[1])
    )


def _messages(descriptor: Any, depth: int) -> st.SearchStrategy[Any]:
    kind = GetMessageClass(descriptor)
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    chosen = st.lists(st.sampled_from(fields), max_size=3, unique_by=lambda field: field.name)
    return chosen.flatmap(
        lambda some: st.fixed_dictionaries({field.name: _values(field, depth) for field in some})
    ).map(lambda values: kind(**values))


def _values(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    entry = field.message_type
    if entry is not None and entry.GetOptions().map_entry:
        return st.dictionaries(_TEXT, _value(entry.fields_by_name["value"], depth), max_size=2)
    single = _value(field, depth)
    return st.lists(single, max_size=22) if field.is_repeated else single


def _value(field: FieldDescriptor, depth: int) -> st.SearchStrategy[Any]:
    if field.message_type is not None:
        return st.deferred(lambda: _messages(field.message_type, depth - 1))
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return st.binary(max_size=5) if field.type == FieldDescriptor.TYPE_BYTES else _TEXT
    return st.sampled_from(ODD_VALUES[field.cpp_type])


def variants(message: Message) -> Iterator[Any]:
    """Copies of a message in which one value, at any depth, is odd."""
    for path, field in _leaves(message):
        for value in _odd_values(field):
            copy = type(message)()
            copy.CopyFrom(message)
            target: Any = copy
            for step in path:
                target = getattr(target, step) if isinstance(step, str) else target[step]
            setattr(target, field.name, value)
            yield copy


def _leaves(message: Message, path: tuple[str | int, ...] = ()) -> Iterator[tuple[tuple[str | int, ...], Any]]:
    for field in message.DESCRIPTOR.fields:
        if field.message_type is None and not field.is_repeated:
            yield path, field
    for field, value in message.ListFields():
        if field.message_type is None or field.message_type.GetOptions().map_entry:
            continue
        inner = enumerate(value) if field.is_repeated else [(None, value)]
        for place, part in inner:
            yield from _leaves(part, (*path, field.name) if place is None else (*path, field.name, place))


def _odd_values(field: Any) -> tuple[Any, ...]:
    if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
        return (b"", b"x" * 70_000) if field.type == FieldDescriptor.TYPE_BYTES else ODD_TEXTS
    return ODD_VALUES[field.cpp_type]
