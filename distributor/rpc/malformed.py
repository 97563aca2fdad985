"""Requests that are not valid messages: answered with INVALID_ARGUMENT instead of an internal error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from google.protobuf.message import DecodeError

from distributor.errors import InvalidArgument
from distributor.wire.json_values import MAX_DEPTH

_NESTING: Final = "MaxDepth"
"""A word in what the parser says of a message that nests too deep; it has no error of its own for that."""


class Malformed:
    """Stands in for a request that could not be read."""

    def __init__(self, error: InvalidArgument) -> None:
        self.error = error


def tolerant(deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
    """`deserialize`, but for bytes that it does not understand a Malformed."""

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
    """Of all that is received, only JSON values can nest: params of commands, data of results."""
    return InvalidArgument(
        "the request nests deeper than 100 messages, which is as deep as parsers go: objects and lists in params and "
        f"in results may nest {MAX_DEPTH} levels deep",
        reason="NESTED_TOO_DEEP",
    )
