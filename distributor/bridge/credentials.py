"""The credentials of dashboards and of requests to the API: a verified token and the caller that it names."""

from __future__ import annotations

from typing import Final, NamedTuple

from starlette.requests import HTTPConnection

from distributor.bridge.session_cookie import session_token
from distributor.errors import Unauthenticated
from distributor.identity.authenticator import Authenticator, bearer_token, caller_of
from distributor.identity.caller import Caller, CallerKind
from distributor.identity.credential_attempts import UNLIMITED, CredentialAttempts
from distributor.identity.metrics_door import DoorRecord, MetricsDoor
from distributor.identity.tokens import TokenVerifier

_TOKEN_REQUIRED: Final = "a token is required: Authorization: Bearer …"


class Credential(NamedTuple):
    """A caller and the token that proves it, with which the bridge calls the server on the caller's behalf."""

    caller: Caller
    token: str = ""


class CredentialCheck:
    """Verifies the tokens of dashboards."""

    def __init__(
        self,
        verifier: TokenVerifier,
        listed_origins: tuple[str, ...] = (),
        attempts: CredentialAttempts = UNLIMITED,
    ) -> None:
        """`listed_origins` are other origins, by name, whose pages may use the session of this bridge's page.

        `attempts` limits failed tokens per address.
        """
        self._attempts = attempts
        self._verifier = verifier
        self._listed = tuple(origin for origin in listed_origins if origin != "*")
        self.leeway_seconds = verifier.rules.leeway_seconds
        """Seconds after its expiry for which a token is accepted."""

    def of_token(self, token: str, address: str = "") -> Credential:
        """The credential of a token sent from `address`. Raises like `CredentialAttempts.verify`."""
        return Credential(caller_of(self._attempts.verify(self._verifier, token, address), address), token)

    def lapse_of(self, caller: Caller) -> str:
        """Why the token of a connected caller is no longer accepted, its expiry aside; empty if it is."""
        if not all(map(self._verifier.accepts_key, caller.basis.keys)):
            return "the key that signed the token is no longer accepted"
        revoked = self._verifier.revoked
        of_service = caller.kind is CallerKind.SERVICE and revoked.service(caller.subject, caller.basis.issued)
        return "the token is revoked" if of_service or any(map(revoked.token_id, caller.token_ids)) else ""

    def of_request(self, connection: HTTPConnection) -> Credential:
        """The credential of a request: of its `Authorization` header, or of its session. Raises like `of_token`."""
        authorization = connection.headers.get("authorization", "")
        session = "" if authorization else self.session_token(connection)
        if session:
            return self.of_token(session, address_of(connection))
        return self.of_header(authorization, address_of(connection))

    def session_token(self, connection: HTTPConnection) -> str:
        """The token of the session that a request may use; empty without one."""
        return session_token(connection, self._listed)

    def metrics_door(self, record: DoorRecord) -> MetricsDoor:
        """Who may read /metrics."""
        return MetricsDoor(Authenticator(self._verifier, attempts=self._attempts), _TOKEN_REQUIRED, record)

    def of_header(self, authorization: str, address: str = "") -> Credential:
        """The credential in an `Authorization` header. Raises like `of_token`."""
        if not authorization:
            raise Unauthenticated(_TOKEN_REQUIRED, reason="CREDENTIALS_REQUIRED")
        return self.of_token(bearer_token(authorization), address)


def address_of(connection: HTTPConnection) -> str:
    """Where a request comes from, without port."""
    return connection.client.host if connection.client is not None else ""
