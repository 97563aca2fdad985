"""What a command does, on one short line for lists: its params, as one would type them."""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Iterator
from typing import Final

from google.protobuf.struct_pb2 import ListValue, Struct, Value

from distributor.model.command import MAX_PARAMS_SUMMARY_BYTES

_ELLIPSIS: Final = "…"
_MOST_PAIRS: Final = MAX_PARAMS_SUMMARY_BYTES // len("a=1 ")
_NESTED: Final = {"struct_value": "{…}", "list_value": "[…]"}


def params_summary(params: Struct) -> str:
    """A line of at most MAX_PARAMS_SUMMARY_BYTES of UTF-8, cut with an ellipsis, without control characters.

    The command line for who has `argv`, else `name=value` in order of names. Costs little however large the params.
    """
    if not params.fields:
        return ""
    line = ""
    for word in _words(params):
        line = f"{line} {word}" if line else word
        if len(line) > MAX_PARAMS_SUMMARY_BYTES:
            break
    one_line = " ".join(line.split())
    return _cut("".join(letter if letter.isprintable() else "?" for letter in one_line))


def _words(params: Struct) -> Iterator[str]:
    if "argv" in params.fields and params.fields["argv"].WhichOneof("kind") == "list_value":
        argv: ListValue = params.fields["argv"].list_value
        return (_word(value) for value in argv.values)
    # A map has no order of its own.
    names = heapq.nsmallest(_MOST_PAIRS, params.fields)
    return (f"{name[:MAX_PARAMS_SUMMARY_BYTES]}={_word(params.fields[name])}" for name in names)


def _word(value: Value) -> str:
    kind = value.WhichOneof("kind")
    match kind:
        case "string_value":
            return shlex.quote(value.string_value[: MAX_PARAMS_SUMMARY_BYTES + 1])
        case "number_value":
            return f"{value.number_value:.15g}"
        case "bool_value":
            return "true" if value.bool_value else "false"
        case _:
            return _NESTED.get(kind or "", "null")


def _cut(line: str) -> str:
    encoded = line.encode()
    if len(encoded) <= MAX_PARAMS_SUMMARY_BYTES:
        return line
    return encoded[: MAX_PARAMS_SUMMARY_BYTES - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
