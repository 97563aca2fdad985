"""The error of an agent that breaks the protocol."""

from __future__ import annotations


class ProtocolViolation(ValueError):
    """The agent broke the protocol. `field` is the path of the offending message field."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field
