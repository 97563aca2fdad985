"""Requests that are no messages: told as INVALID_ARGUMENT instead of an internal error."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from distributor.errors import InvalidArgument


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
            return Malformed(
                InvalidArgument(
                    f"the request is not a valid protobuf message, or has text that is not UTF-8: {error}",
                    reason="MALFORMED_MESSAGE",
                )
            )

    return read
