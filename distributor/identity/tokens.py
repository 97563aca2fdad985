"""Verifies dashboard tokens: JWTs with identity and scopes, and keys bound to their algorithms."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, Final, NamedTuple

import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from distributor.errors import ConfigurationError, PermissionDenied

MIN_KEY_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
MAX_TOKEN_CHARACTERS: Final = 8_192
MAX_EXPIRES: Final = 253_402_300_799
"""The end of the year 9999."""
LEEWAY_SECONDS: Final = 5.0

NO_PEMS: Final[Mapping[str, bytes]] = {}
_REQUIRED: Final = ("exp", "iat", "sub", "aud")


class Scope(StrEnum):
    """The scopes of a token."""

    READ = "dashboard:read"
    WRITE = "command:write"


class Identity(NamedTuple):
    """The claims of a verified token. `expires` is in seconds since the epoch."""

    subject: str
    scopes: frozenset[Scope]
    expires: float


class TokenVerifier:
    """Verifies tokens with one shared key, public keys, or both. No I/O."""

    def __init__(
        self,
        audience: str,
        key: str = "",
        public_pems: Mapping[str, bytes] = NO_PEMS,
        leeway_seconds: float = LEEWAY_SECONDS,
    ) -> None:
        """`key` is for HS256; `public_pems` maps file names to public keys, each for the algorithm of its key type.

        Raises ConfigurationError.
        """
        self._audience = audience
        self.leeway_seconds = leeway_seconds
        """Tolerated clock difference between an issuer and this bridge."""
        self._keys: list[tuple[str, Any]] = []
        if key:
            self._keys.append(("HS256", _checked_key(key)))
        self._keys += [_public_key(name, pem) for name, pem in public_pems.items()]
        if not self._keys:
            raise ConfigurationError(
                "no key to verify tokens: set token_key, token_key_file or public_keys", field="token_key"
            )

    def verify(self, token: str) -> Identity:
        """Verify a token. Raises PermissionDenied with the reason; the message never contains the token."""
        if len(token) > MAX_TOKEN_CHARACTERS:
            raise _rejected(f"the token is over {MAX_TOKEN_CHARACTERS:,} characters")
        try:
            algorithm = str(jwt.get_unverified_header(token).get("alg"))
        except (jwt.PyJWTError, ValueError, RecursionError) as error:
            raise _rejected("the token is not a JWT") from error
        candidates = [key for of_key, key in self._keys if of_key == algorithm]
        if not candidates:
            raise _rejected("the token's algorithm matches none of the bridge's keys")
        for key in candidates[:-1]:
            try:
                return self._checked(token, key, algorithm)
            except PermissionDenied:
                continue
        return self._checked(token, candidates[-1], algorithm)

    def _checked(self, token: str, key: Any, algorithm: str) -> Identity:
        try:
            claims = jwt.decode(
                token,
                key,
                algorithms=[algorithm],
                audience=self._audience,
                leeway=self.leeway_seconds,
                options={"require": list(_REQUIRED)},
            )
            expires = float(claims["exp"])
        except jwt.ExpiredSignatureError as error:
            raise _rejected("the token has expired") from error
        except jwt.MissingRequiredClaimError as error:
            raise _rejected(f"the token has no {error.claim}") from error
        except jwt.InvalidAudienceError as error:
            raise _rejected("the token is for another audience") from error
        except jwt.InvalidSignatureError as error:
            raise _rejected("the token is not signed by a key of this bridge") from error
        except (jwt.PyJWTError, ValueError, OverflowError, RecursionError) as error:
            raise _rejected("the token is not valid") from error
        if expires > MAX_EXPIRES:
            raise _rejected("the token expires after the year 9999")
        if not claims["sub"]:
            raise _rejected("the token has an empty sub")
        return Identity(claims["sub"], _scopes(claims.get("scope")), expires)


def mint(key: str, subject: str, scopes: Sequence[Scope], audience: str, issued: int, expires: int) -> str:
    """Sign a token with a shared key; times in seconds since the epoch. Raises ConfigurationError for a short key."""
    claims = {"sub": subject, "scope": " ".join(scopes), "aud": audience, "iat": issued, "exp": expires}
    return jwt.encode(claims, _checked_key(key), algorithm="HS256")


def _scopes(claim: object) -> frozenset[Scope]:
    words = claim.split() if isinstance(claim, str) else ()
    return frozenset(scope for scope in Scope if scope in words)


def _checked_key(key: str) -> bytes:
    # A key read from a file may not be valid UTF-8.
    encoded = key.encode(errors="surrogateescape")
    if len(encoded) < MIN_KEY_BYTES:
        raise ConfigurationError(
            f"token_key must be at least {MIN_KEY_BYTES} bytes, not {len(encoded)}; "
            "generate one with openssl rand -hex 32",
            field="token_key",
        )
    return encoded


def _public_key(name: str, pem: bytes) -> tuple[str, Any]:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{name} (public_keys) is not a public key in PEM", field="public_keys") from error
    if isinstance(key, RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return "RS256", key
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256", key
    if isinstance(key, Ed25519PublicKey):
        return "EdDSA", key
    raise ConfigurationError(
        f"{name} (public_keys) must be an RSA key with at least {MIN_RSA_BITS} bits, a P-256 or an Ed25519 key",
        field="public_keys",
    )


def _rejected(message: str) -> PermissionDenied:
    return PermissionDenied(message, reason="TOKEN_REFUSED", field="token")
