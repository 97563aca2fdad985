"""Invalid requests: answered with INVALID_ARGUMENT instead of an internal error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from distributor.errors import InvalidArgument
from distributor.wire.json_values import MAX_DEPTH

_NESTING: Final = "MaxDepth"
"""Marks a parser error as excessive nesting; the parser has no distinct error for it."""


class Malformed:
    """Stands in for a request that could not be parsed."""

    def __init__(self, error: InvalidArgument) -> None:
        self.error = error


def tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """Wrap `deserialize` to return a Malformed for invalid bytes."""

    def read(data: bytes) -> Any:
        try:
            return deserialize(data)
        except (DecodeError, UnicodeDecodeError) as error:
            return Malformed(_too_deep() if _NESTING in str(error) else _unreadable(error))

    return read


def _unreadable(error: Exception) -> InvalidArgument:
    return InvalidArgument(
        f"the request is not a valid protobuf message, or has text that is not UTF-8: {error}",
        reason="MALFORMED_MESSAGE",
    )


def _too_deep() -> InvalidArgument:
    """In valid messages only JSON values nest: params of commands and data of results."""
    return InvalidArgument(
        "the request nests deeper than 100 messages, the limit of protobuf parsers: objects and lists in params and "
        f"results may nest {MAX_DEPTH} levels deep",
        reason="NESTED_TOO_DEEP",
    )
