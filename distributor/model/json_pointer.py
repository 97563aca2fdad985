"""JSON pointers (RFC 6901) that name secret params."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from distributor.model.command import InvalidField, shown

MASK: Final = "***"
"""What is shown in place of a secret."""
MAX_POINTERS: Final = 32
MAX_POINTER_CHARS: Final = 256
MAX_POINTER_STEPS: Final = 32

Steps: TypeAlias = tuple[str, ...]
"""Names and list indices, unescaped."""

_POINTER: Final = re.compile(r"(?:/(?:[^~/]|~[01])+)+")


def parse_pointer(pointer: str, field: str) -> Steps:
    """Return the steps of a pointer such as `/auth/password`. Raises InvalidField that names `field`."""
    if len(pointer) > MAX_POINTER_CHARS or not _POINTER.fullmatch(pointer):
        raise InvalidField(
            field,
            "INVALID_POINTER",
            f"{field} must be JSON pointers such as /password, at most {MAX_POINTER_CHARS} characters, "
            f"not {shown(pointer)}",
        )
    steps = tuple(step.replace("~1", "/").replace("~0", "~") for step in pointer[1:].split("/"))
    if len(steps) > MAX_POINTER_STEPS:
        raise InvalidField(field, "INVALID_POINTER", f"{field} must have at most {MAX_POINTER_STEPS} steps")
    return steps


def parse_pointers(pointers: Sequence[str], field: str) -> tuple[Steps, ...]:
    """Return the steps of each pointer. Raises InvalidField for more than MAX_POINTERS, or an invalid one."""
    if len(pointers) > MAX_POINTERS:
        raise InvalidField(
            field, "TOO_MANY_POINTERS", f"{field} has {len(pointers):,} pointers, the limit is {MAX_POINTERS}"
        )
    return tuple(parse_pointer(pointer, field) for pointer in pointers)


def pointer_to(name: str) -> str:
    """Return the pointer to a top-level member."""
    return "/" + name.replace("~", "~0").replace("/", "~1")


def covered(path: Sequence[str | int], secrets: Iterable[Steps]) -> int | None:
    """How many steps of `path` lead to a secret that contains its end; None if it is in none."""
    names = tuple(map(str, path))
    lengths = [len(steps) for steps in secrets if names[: len(steps)] == steps]
    return min(lengths, default=None)
