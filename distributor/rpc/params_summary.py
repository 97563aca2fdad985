"""What a command does, on one short line for lists: its params, as one would type them."""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Iterator, Mapping
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from distributor.model.command import MAX_PARAMS_SUMMARY_BYTES

_ELLIPSIS: Final = "…"
_MOST_PAIRS: Final = MAX_PARAMS_SUMMARY_BYTES // len("a=1 ")
_NESTED: Final = {"struct_value": "{…}", "list_value": "[…]"}


def params_summary(params: Struct) -> str:
    """A line of at most MAX_PARAMS_SUMMARY_BYTES of UTF-8, cut with an ellipsis, without control characters.

    The command line for who has `argv`, else `name=value` in order of names. Costs little however large the params.
    """
    fields = params.fields
    if not fields:
        return ""
    line = ""
    for word in _words(fields):
        line = f"{line} {word}" if line else word
        if len(line) > MAX_PARAMS_SUMMARY_BYTES:
            break
    if not line.isprintable():
        line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(line.split()))
    return _cut(line)


def _words(fields: Mapping[str, Value]) -> Iterator[str]:
    if "argv" in fields and fields["argv"].WhichOneof("kind") == "list_value":
        return map(_word, fields["argv"].list_value.values)
    # A map has no order of its own.
    names = sorted(fields) if len(fields) <= _MOST_PAIRS else heapq.nsmallest(_MOST_PAIRS, fields)
    return (f"{name[:MAX_PARAMS_SUMMARY_BYTES]}={_word(fields[name])}" for name in names)


def _word(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        return shlex.quote(value.string_value[: MAX_PARAMS_SUMMARY_BYTES + 1])
    if kind == "number_value":
        return f"{value.number_value:.15g}"
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return _NESTED.get(kind or "", "null")


def _cut(line: str) -> str:
    if line.isascii() and len(line) <= MAX_PARAMS_SUMMARY_BYTES:
        return line
    encoded = line.encode()
    if len(encoded) <= MAX_PARAMS_SUMMARY_BYTES:
        return line
    return encoded[: MAX_PARAMS_SUMMARY_BYTES - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
