"""Enrolment tokens as text: an id, a secret, and the certificate by which an agent recognises the server.

    enrol.<id>.<secret>.<certificate of the server's CA: DER in base64url>

The last part is empty if hosts trust the server's CA without it. The secret is derived from the CA's key and from what
the token is for: who may write to Valkey can neither make a token nor change what one is for.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import re
import secrets
import ssl
from collections.abc import Mapping
from typing import Final, NamedTuple, Self

from distributor.errors import InvalidArgument

PREFIX: Final = "enrol"
MAX_TOKEN_CHARACTERS: Final = 16_384

_ID_BYTES: Final = 9
_CONTEXT: Final = b"distributor enrolment token 1\0"
_FORM: Final = re.compile(rf"{PREFIX}\.([A-Za-z0-9_-]{{12}})\.([A-Za-z0-9_-]{{43}})\.([A-Za-z0-9_-]*)")


class TokenSecret(NamedTuple):
    """What the server is shown: the id, which is no secret, and the secret, of which the store keeps only `digest`."""

    token_id: str
    secret: str

    @classmethod
    def new(cls, authority: bytes, agents: str, labels: Mapping[str, str]) -> Self:
        """Make one for these agents and labels; `authority` is the secret of the CA."""
        token_id = secrets.token_urlsafe(_ID_BYTES)
        return cls(token_id, _derived(authority, token_id, agents, labels))

    def is_for(self, authority: bytes, agents: str, labels: Mapping[str, str]) -> bool:
        """Whether the CA with this secret made it for these agents and labels."""
        return hmac.compare_digest(self.secret.encode(), _derived(authority, self.token_id, agents, labels).encode())

    @property
    def digest(self) -> str:
        """SHA-256 of the secret in hexadecimal. The secret has 256 bits, so this needs neither salt nor cost."""
        return hashlib.sha256(self.secret.encode()).hexdigest()


def token_text(token: TokenSecret, ca_der: bytes) -> str:
    """The token as an operator passes it on; `ca_der` is empty if the host trusts the server's CA anyway."""
    ca = base64.urlsafe_b64encode(ca_der).rstrip(b"=").decode()
    return f"{PREFIX}.{token.token_id}.{token.secret}.{ca}"


def parsed_token(text: str) -> tuple[TokenSecret, bytes]:
    """Return the secret and the server's CA in PEM, empty if the token has none. Raises InvalidArgument."""
    match = _FORM.fullmatch(text) if len(text) <= MAX_TOKEN_CHARACTERS else None
    if match is None:
        raise _malformed()
    token_id, secret, encoded = match.groups()
    try:
        der = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _malformed() from error
    return TokenSecret(token_id, secret), ssl.DER_cert_to_PEM_cert(der).encode() if der else b""


def _derived(authority: bytes, token_id: str, agents: str, labels: Mapping[str, str]) -> str:
    purpose = json.dumps([token_id, agents, dict(labels)], sort_keys=True).encode()
    return base64.urlsafe_b64encode(hmac.digest(authority, _CONTEXT + purpose, "sha256")).rstrip(b"=").decode()


def _malformed() -> InvalidArgument:
    return InvalidArgument(
        "the enrolment token is malformed or incomplete; copy all of what distributor enrol-token printed",
        field="token",
        reason="INVALID_ENROLMENT_TOKEN",
    )
