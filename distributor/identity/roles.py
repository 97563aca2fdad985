"""The roles of callers."""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final


class Role(StrEnum):
    """What a caller may do. Each of `viewer`, `operator` and `admin` includes those before it.

    A `delegate` may do nothing itself, and on behalf of a user whatever that user may: the role of a bridge.
    """

    VIEWER = "viewer"
    OPERATOR = "operator"
    ADMIN = "admin"
    DELEGATE = "delegate"


_INCLUDED: Final = {
    Role.ADMIN: frozenset({Role.ADMIN, Role.OPERATOR, Role.VIEWER}),
    Role.OPERATOR: frozenset({Role.OPERATOR, Role.VIEWER}),
    Role.VIEWER: frozenset({Role.VIEWER}),
    Role.DELEGATE: frozenset({Role.DELEGATE}),
}

NO_ROLES: Final[frozenset[Role]] = frozenset()


def with_included(roles: Iterable[Role]) -> frozenset[Role]:
    """Return these roles and those that they include."""
    return NO_ROLES.union(*(_INCLUDED[role] for role in roles))
