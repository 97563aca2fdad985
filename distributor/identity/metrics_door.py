"""Admits readers of metrics: viewers whose grants exclude nothing, since metrics count what all callers do."""

from __future__ import annotations

from distributor.errors import PermissionDenied, Unauthenticated
from distributor.identity.authenticator import bearer_token, caller_of
from distributor.identity.permissions import ROUTES, check_permitted
from distributor.identity.tokens import TokenVerifier, refused


def admit_metrics(verifier: TokenVerifier | None, authorization: str) -> None:
    """Check the value of an `Authorization` header. Without a verifier, no token counts.

    Raises Unauthenticated, PermissionDenied, and Unavailable while the key of the token is being fetched.
    """
    if not authorization:
        raise Unauthenticated("a token is required: Authorization: Bearer …", reason="CREDENTIALS_REQUIRED")
    if verifier is None:
        raise refused("tokens are not accepted here, as no key is set to verify them")
    caller = caller_of(verifier.verify(bearer_token(authorization)), "")
    check_permitted(caller, ROUTES["/metrics"], "GET /metrics")
    if not caller.grants.everything:
        raise PermissionDenied("metrics count everything, and the token is narrowed by grants", reason="NOT_GRANTED")
