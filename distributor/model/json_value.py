"""The JSON values as plain Python types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""Plain JSON; sequences are lists or tuples. Decoded values have `list`, `dict`, and `int` for whole numbers."""
