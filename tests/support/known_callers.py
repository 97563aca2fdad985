"""An authenticator whose tokens are words, for tests of what happens once the caller is known."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from distributor.errors import Unauthenticated
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.grants import Grant, Grants
from distributor.identity.roles import Role, with_included
from distributor.rpc.interceptors.authentication import AuthContext, Metadata


def user(name: str, *roles: Role, grants: tuple[Grant, ...] | None = None) -> Caller:
    """A user with these roles, and those that they include."""
    return Caller(CallerKind.USER, name, with_included(roles), Grants(grants))


VIEWER: Final = user("vera", Role.VIEWER)
OPERATOR: Final = user("olaf", Role.OPERATOR)
ADMIN: Final = user("ada", Role.ADMIN)
AGENT: Final = Caller(CallerKind.AGENT, "agent123")


class KnownCallers:
    """Knows each caller by its subject, in the metadata `authorization: Bearer <subject>`."""

    def __init__(self, *callers: Caller) -> None:
        self._callers = {caller.subject: caller for caller in callers}

    async def caller(self, metadata: Metadata, transport: AuthContext, address: str) -> Caller | None:
        """Return the caller that is named."""
        word = dict(metadata).get("authorization")
        if word is None:
            return None
        found = self._callers.get(str(word).removeprefix("Bearer "))
        if found is None:
            raise Unauthenticated("nobody has this token", reason="TOKEN_REFUSED")
        return replace(found, address=address)


def credentials_of(caller: Caller) -> tuple[tuple[str, str], ...]:
    """The metadata by which KnownCallers knows a caller."""
    return (("authorization", f"Bearer {caller.subject}"),)
