"""Proves possession of the private key of an expired certificate that is renewed: a signature over a fresh challenge.

The challenge needs no storage: it carries its time, authenticated with a secret that all replicas of a CA share.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

CHALLENGE_SECONDS: Final = 60
"""How long a challenge may be answered."""

_CONTEXT: Final = b"distributor renewal 1\0"
_TIME_BYTES: Final = 8
_NONCE_BYTES: Final = 16
_TAG_BYTES: Final = 32


def new_challenge(secret: bytes, now: float) -> bytes:
    """Make a challenge; `now` in seconds since the epoch."""
    body = int(now).to_bytes(_TIME_BYTES, "big") + secrets.token_bytes(_NONCE_BYTES)
    return body + _tag(secret, body)


def is_fresh(challenge: bytes, secret: bytes, now: float) -> bool:
    """Whether a server with this secret made the challenge within the last CHALLENGE_SECONDS."""
    body, tag = challenge[:-_TAG_BYTES], challenge[-_TAG_BYTES:]
    if len(body) != _TIME_BYTES + _NONCE_BYTES or not hmac.compare_digest(tag, _tag(secret, body)):
        return False
    return abs(now - int.from_bytes(body[:_TIME_BYTES], "big")) <= CHALLENGE_SECONDS


def sign_renewal(key: ec.EllipticCurvePrivateKey, challenge: bytes, request_pem: bytes) -> bytes:
    """Sign with the key of the expired certificate: ECDSA with SHA-256, in DER."""
    return key.sign(_signed(challenge, request_pem), ec.ECDSA(hashes.SHA256()))


def is_proved(key: ec.EllipticCurvePublicKey, signature: bytes, challenge: bytes, request_pem: bytes) -> bool:
    """Whether the private key that belongs to `key` signed this request for this challenge."""
    try:
        key.verify(signature, _signed(challenge, request_pem), ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        return False
    return True


def _signed(challenge: bytes, request_pem: bytes) -> bytes:
    return _CONTEXT + challenge + hashlib.sha256(request_pem).digest()


def _tag(secret: bytes, body: bytes) -> bytes:
    return hmac.digest(secret, _CONTEXT + body, "sha256")
