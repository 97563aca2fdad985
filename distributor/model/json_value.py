"""The JSON values as plain Python types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""Plain JSON; sequences are lists or tuples. Decoded values have `list`, `dict`, and `int` for whole numbers."""

_MAX_DIGITS: Final = 400
"""No 64-bit float has more digits before its point."""
_MAX_NAME: Final = 40
"""Maximum number of characters of a name that an error repeats."""


def whole_number(text: str) -> int | float:
    """A whole number as JSON text spells it, for `json.loads(parse_int=...)`: -0 is a float, which keeps its sign.

    Cut to _MAX_DIGITS, so that it costs no more than its length and is still refused as too large where it stands.
    """
    return int(text[:_MAX_DIGITS]) or (-0.0 if text.startswith("-") else 0)


def step(name: str) -> str:
    """Format `name` as a step of a path: quoted and cut unless an identifier, as paths reach logs and terminals."""
    return f".{name}" if name.isidentifier() and len(name) <= _MAX_NAME else f"[{name[:_MAX_NAME]!a}]"
