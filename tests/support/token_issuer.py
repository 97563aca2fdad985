"""An issuer of tokens with keys of every kind, for tests that sign whatever they like."""

from __future__ import annotations

import json
import time
import uuid
from typing import Any, Final

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.identity.tokens import TokenRules

KEY: Final = "k" * 32
RULES: Final = TokenRules()
LIFETIME: Final = 60

PRIVATE: Final[dict[str, Any]] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}
_ALGORITHMS: Final[dict[str, Any]] = {
    "RS256": jwt.algorithms.RSAAlgorithm,
    "ES256": jwt.algorithms.ECAlgorithm,
    "EdDSA": jwt.algorithms.OKPAlgorithm,
}


def claims(*, lifetime: float = LIFETIME, issued_in: int = 0, **changes: Any) -> dict[str, Any]:
    """Claims as of now: made when a test runs, as a whole test run may take longer than they live."""
    now = int(time.time())
    usual = {"sub": "alice", "iss": RULES.issuer, "aud": RULES.audience, "iat": now + issued_in, "exp": now + lifetime}
    return usual | {"jti": uuid.uuid4().hex, "scope": "dashboard:read x"} | changes


def signed(**changes: Any) -> str:
    """A token signed with KEY, whatever its claims are."""
    return jwt.PyJWS().encode(json.dumps(claims(**changes)).encode(), KEY, algorithm="HS256")


def pem_of(private: Any) -> bytes:
    """The public key of a private one."""
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


PEMS: Final = [(f"{algorithm}.pem", pem_of(private)) for algorithm, private in PRIVATE.items()]


def jwk_of(algorithm: str, key_id: str, private: Any = None, **changes: Any) -> dict[str, Any]:
    """The public key of an algorithm as an entry of a key set."""
    public = (private or PRIVATE[algorithm]).public_key()
    entry = json.loads(_ALGORITHMS[algorithm].to_jwk(public))
    return {**entry, "kid": key_id, "use": "sig", "alg": algorithm} | changes
