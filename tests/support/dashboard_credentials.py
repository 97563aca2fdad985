"""Credentials of dashboards for tests below the door."""

from __future__ import annotations

import time

from distributor.bridge.credentials import Credential, CredentialCheck
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.grants import Grant, Grants
from distributor.identity.roles import Role, with_included
from distributor.identity.token_keys import key_ring
from distributor.identity.tokens import Revoked, TokenVerifier
from tests.support.token_issuer import KEY, RULES


def credential(
    *roles: Role, lifetime: float = 3_600.0, grants: tuple[Grant, ...] | None = None, token_id: str = "1"
) -> Credential:
    """The credential of alice, who may see everything unless grants narrow it."""
    expires = time.time() + lifetime
    caller = Caller(CallerKind.USER, "alice", with_included(roles), Grants(grants), "", "", (token_id,), expires)
    return Credential(caller, "token")


def credential_check(revoked: set[str] | None = None) -> CredentialCheck:
    """A check that accepts tokens signed with KEY unless their ids are in `revoked`."""
    return CredentialCheck(TokenVerifier(key_ring([KEY], []), RULES, Revoked((revoked or set()).__contains__)))
