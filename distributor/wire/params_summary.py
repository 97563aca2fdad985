"""Summarises a command's params in one short line for lists, as typed in a shell."""

from __future__ import annotations

import heapq
import shlex
from collections.abc import Iterable, Mapping
from typing import Final

from google.protobuf.struct_pb2 import Struct, Value

from distributor.model.command import MAX_PARAMS_SUMMARY_BYTES

_ELLIPSIS: Final = "…"
_MAX_WORDS: Final = MAX_PARAMS_SUMMARY_BYTES // len("a ") + 1
_MAX_PAIRS: Final = MAX_PARAMS_SUMMARY_BYTES // len("a=1 ") + 1
_NESTED: Final = {"struct_value": "{…}", "list_value": "[…]"}


def params_summary(params: Struct) -> str:
    """Return a line of at most MAX_PARAMS_SUMMARY_BYTES of UTF-8, cut with an ellipsis, without control characters.

    The command line if `params` has `argv`, else `name=value` pairs sorted by name. The cost does not depend on the
    size of the params.
    """
    fields = params.fields
    if not fields:
        return ""
    line = " ".join(_words(fields))
    if line.isascii() and line.isprintable() and len(line) <= MAX_PARAMS_SUMMARY_BYTES:
        return line
    clean = "".join(letter if letter.isprintable() else "?" for letter in " ".join(line.split()))
    return _cut(clean.encode())


def _words(fields: Mapping[str, Value]) -> Iterable[str]:
    """Return no more words than can fit."""
    if "argv" in fields and fields["argv"].WhichOneof("kind") == "list_value":
        return map(_word, fields["argv"].list_value.values[:_MAX_WORDS])
    # A protobuf map has no order.
    names = sorted(fields) if len(fields) <= _MAX_PAIRS else heapq.nsmallest(_MAX_PAIRS, fields)
    return [f"{name[:MAX_PARAMS_SUMMARY_BYTES]}={_word(fields[name])}" for name in names]


def _word(value: Value) -> str:
    kind = value.WhichOneof("kind")
    if kind == "string_value":
        text = value.string_value[: MAX_PARAMS_SUMMARY_BYTES + 1]
        # Most words are plain, and quote takes longer to find that out.
        return text if text.isalnum() and text.isascii() else shlex.quote(text)
    if kind == "number_value":
        number = value.number_value
        # All digits, as in JSON: rounding to fifteen digits could turn an id into another one.
        digits = number.is_integer() and abs(number) < 1e21 and (number != 0 or str(number) != "-0.0")
        return str(int(number)) if digits else repr(number)
    if kind == "bool_value":
        return "true" if value.bool_value else "false"
    return _NESTED.get(kind or "", "null")


def _cut(line: bytes) -> str:
    if len(line) <= MAX_PARAMS_SUMMARY_BYTES:
        return line.decode()
    return line[: MAX_PARAMS_SUMMARY_BYTES - len(_ELLIPSIS.encode())].decode(errors="ignore") + _ELLIPSIS
