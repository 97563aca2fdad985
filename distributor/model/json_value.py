"""Values that JSON has, as plain Python values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

JsonValue: TypeAlias = "bool | int | float | str | Sequence[JsonValue] | Mapping[str, JsonValue] | None"
"""Plain JSON; of sequences, lists and tuples. What was read has `list`, `dict`, and `int` for whole numbers."""
