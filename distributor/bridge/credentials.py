"""The credentials of dashboards and of requests to the API: a verified token and the caller that it names."""

from __future__ import annotations

from typing import NamedTuple

from distributor.errors import Unauthenticated
from distributor.identity.authenticator import bearer_token, caller_of
from distributor.identity.caller import Caller
from distributor.identity.tokens import TokenVerifier


class Credential(NamedTuple):
    """A caller and the token that proves it, with which the bridge calls the server on the caller's behalf."""

    caller: Caller
    token: str = ""


class CredentialCheck:
    """Verifies the tokens of dashboards."""

    def __init__(self, verifier: TokenVerifier) -> None:
        self._verifier = verifier
        self.leeway_seconds = verifier.rules.leeway_seconds
        """Seconds after its expiry for which a token is accepted."""

    def of_token(self, token: str, address: str = "") -> Credential:
        """The credential of a token sent from `address`. Raises Unauthenticated, and Unavailable like the verifier."""
        return Credential(caller_of(self._verifier.verify(token), address), token)

    def is_revoked(self, caller: Caller) -> bool:
        """Whether a token of the caller has been revoked since it was verified."""
        return any(map(self._verifier.revoked, caller.token_ids))

    def of_header(self, authorization: str, address: str = "") -> Credential:
        """The credential in an `Authorization` header. Raises like `of_token`."""
        if not authorization:
            raise Unauthenticated("a token is required: Authorization: Bearer …", reason="CREDENTIALS_REQUIRED")
        return self.of_token(bearer_token(authorization), address)
