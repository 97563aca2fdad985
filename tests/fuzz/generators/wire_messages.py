"""Protobuf messages: sound ones of any type, and frames that no sane peer sends."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final

from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from tests.fuzz.generators.byte_changes import changed, random_bytes
from tests.fuzz.generators.vocabulary import Vocabulary
from tests.support.odd_messages import ODD_TEXTS, ODD_VALUES, UNKNOWN_FIELD

LARGEST_DEPTH: Final = 4
MOST_BYTES: Final = 65_536
MOST_NESTING: Final = 20_000
DOUBLE_TYPES: Final = (FieldDescriptor.CPPTYPE_DOUBLE, FieldDescriptor.CPPTYPE_FLOAT)

Value = Callable[[Random, FieldDescriptor], Any]


class WireMessages:
    """Makes messages of any type, with words that the server knows."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary

    def sound(self, rng: Random, kind: type[Message]) -> Any:
        """Return a message with plausible values in most of its fields."""
        return _message(rng, kind.DESCRIPTOR, LARGEST_DEPTH, self._plausible)

    def odd(self, rng: Random, kind: type[Message]) -> Any:
        """Return a message with any of its fields set to anything that its type allows."""
        return _message(rng, kind.DESCRIPTOR, LARGEST_DEPTH, self._mixed)

    def frame(self, rng: Random, kind: type[Message]) -> bytes:
        """Return bytes to send instead of a message of this type."""
        choice = rng.random()
        if choice < 0.1:
            return random_bytes(rng, MOST_BYTES)
        if choice < 0.2:
            return nested(rng)
        message = self.sound(rng, kind) if choice < 0.6 else self.odd(rng, kind)
        frame: bytes = message.SerializeToString()
        if choice < 0.3:
            return frame + UNKNOWN_FIELD
        return frame if choice >= 0.8 else changed(rng, frame)

    def _plausible(self, rng: Random, field: Any) -> Any:
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return b"data" if field.type == FieldDescriptor.TYPE_BYTES else self._vocabulary.text(rng, field.name)
        if field.cpp_type == FieldDescriptor.CPPTYPE_ENUM:
            return rng.choice(field.enum_type.values).number
        return rng.random() < 0.5 if field.cpp_type == FieldDescriptor.CPPTYPE_BOOL else rng.randint(1, 20)

    def _mixed(self, rng: Random, field: FieldDescriptor) -> Any:
        if rng.random() < 0.5:
            return self._plausible(rng, field)
        if field.cpp_type == FieldDescriptor.CPPTYPE_STRING:
            return rng.randbytes(9) if field.type == FieldDescriptor.TYPE_BYTES else rng.choice(ODD_TEXTS)
        kind = FieldDescriptor.CPPTYPE_DOUBLE if field.cpp_type in DOUBLE_TYPES else field.cpp_type
        return rng.choice(ODD_VALUES[kind])


def nested(rng: Random) -> bytes:
    """Return a message in a message in a message, of one field number, or as many groups that begin and never end."""
    levels = 1 << rng.randint(1, MOST_NESTING.bit_length() - 1)
    number = rng.randint(1, 15)
    if rng.random() < 0.3:
        return bytes([number << 3 | 3]) * levels
    frame = b""
    for _ in range(min(levels, 2_000)):
        frame = bytes([number << 3 | 2]) + _varint(len(frame)) + frame
    return frame


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])


def _message(rng: Random, descriptor: Any, depth: int, value: Value) -> Message:
    message = GetMessageClass(descriptor)()
    fields = [field for field in descriptor.fields if depth or field.message_type is None]
    for field in fields:
        if rng.random() < 0.6:
            _set(rng, message, field, depth, value)
    return message


def _set(rng: Random, message: Any, field: Any, depth: int, value: Value) -> None:
    def one() -> Any:
        inner = field.message_type
        return value(rng, field) if inner is None else _message(rng, inner, depth - 1, value)

    if field.message_type is not None and field.message_type.GetOptions().map_entry:
        entry = field.message_type.fields_by_name["value"]
        for _ in range(rng.randint(0, 3)):
            key = value(rng, field.message_type.fields_by_name["key"])
            if entry.message_type is None:
                getattr(message, field.name)[key] = value(rng, entry)
            else:
                getattr(message, field.name)[key].CopyFrom(_message(rng, entry.message_type, depth - 1, value))
    elif field.is_repeated:
        getattr(message, field.name).extend(one() for _ in range(rng.choice((0, 1, 1, 2, 3, 22))))
    elif field.message_type is not None:
        getattr(message, field.name).CopyFrom(one())
    else:
        setattr(message, field.name, one())
