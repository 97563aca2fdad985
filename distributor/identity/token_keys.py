"""Keys of token issuers, each bound to one algorithm, and the ring that finds the key of a token."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_public_key

from distributor.errors import ConfigurationError

MIN_KEY_BYTES: Final = 32
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 8192
"""Verifying with a larger key takes milliseconds."""
MAX_KEYS: Final = 32
"""Keys in a ring."""
MAX_UNNAMED: Final = 8
"""Keys without an id of one algorithm: each may have signed any token."""
MAX_CHECKS: Final = MAX_UNNAMED + 2
"""Signatures that a token may cost: with all keys without an id, and those that it names."""
SHARED_ALGORITHM: Final = "HS256"


class TokenKey(NamedTuple):
    """A key, its only algorithm, and its id; a key without an id fits tokens with any."""

    key_id: str
    algorithm: str
    key: Any


class KeyRing(NamedTuple):
    """The keys that tokens may be signed with. `signing` is the shared key that signs new tokens."""

    keys: tuple[TokenKey, ...] = ()
    signing: TokenKey | None = None

    def candidates(self, algorithm: str, key_id: str) -> list[TokenKey]:
        """The keys that may have signed a token, those that it names first; `key_id` is empty if it names none."""
        fits = [
            key
            for key in self.keys
            if key.algorithm == algorithm and (not key_id or not key.key_id or key.key_id == key_id)
        ]
        return sorted(fits, key=lambda key: not key.key_id)

    def with_keys(self, more: Iterable[TokenKey]) -> KeyRing:
        """This ring with further keys that verify."""
        return self._replace(keys=(*self.keys, *more))


def key_ring(shared: Iterable[str], public_pems: Iterable[tuple[str, bytes]]) -> KeyRing:
    """A ring of shared keys, of which the first signs, and of public keys in PEM, as pairs of file name and content.

    Raises ConfigurationError for a key that is too short or of an unsupported kind, and for too many keys.
    """
    own = [shared_key(key) for key in shared]
    keys = (*own, *(_public_key(name, pem) for name, pem in public_pems))
    if len(keys) > MAX_KEYS:
        raise ConfigurationError(f"{len(keys)} token keys are set, the limit is {MAX_KEYS}", field="public_keys")
    unnamed = Counter(key.algorithm for key in keys if not key.key_id)
    for algorithm, number in unnamed.items():
        if number > MAX_UNNAMED:
            raise ConfigurationError(
                f"{number} of public_keys are for {algorithm}, the limit is {MAX_UNNAMED}, as a token is checked with "
                "each of them; publish more keys by jwks_url, where they have ids",
                field="public_keys",
            )
    return KeyRing(keys, own[0] if own else None)


def shared_key(key: str) -> TokenKey:
    """A shared key for HS256, with an id derived from it. Raises ConfigurationError if it is too short."""
    # A key read from a file may not be valid UTF-8.
    encoded = key.encode(errors="surrogateescape")
    if len(encoded) < MIN_KEY_BYTES:
        raise ConfigurationError(
            f"token_key must be at least {MIN_KEY_BYTES} bytes, not {len(encoded)}; "
            "generate one with openssl rand -hex 32",
            field="token_key",
        )
    return TokenKey(_derived_id(encoded), SHARED_ALGORITHM, encoded)


def algorithm_of(key: object) -> str | None:
    """The algorithm of a public key; None if its kind or size is not supported."""
    if isinstance(key, RSAPublicKey) and MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        return "RS256"
    if isinstance(key, EllipticCurvePublicKey) and key.curve.name == "secp256r1":
        return "ES256"
    return "EdDSA" if isinstance(key, Ed25519PublicKey) else None


def fingerprint(key: TokenKey) -> str:
    """A digest that tells a key from others, also when it is read again. Says nothing of a shared key."""
    material = key.key
    if not isinstance(material, bytes):
        material = material.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    prefix = f"command-distributor token key fingerprint\0{key.algorithm}\0{key.key_id}\0"
    return hashlib.sha256(prefix.encode() + material).hexdigest()


def _derived_id(key: bytes) -> str:
    return hashlib.sha256(b"command-distributor token key id\0" + key).hexdigest()[:16]


def _public_key(name: str, pem: bytes) -> TokenKey:
    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{name} (public_keys) is not a public key in PEM", field="public_keys") from error
    algorithm = algorithm_of(key)
    if algorithm is None:
        raise ConfigurationError(
            f"{name} (public_keys) must be an RSA key with {MIN_RSA_BITS:,} to {MAX_RSA_BITS:,} bits, a P-256 or an "
            "Ed25519 key",
            field="public_keys",
        )
    return TokenKey("", algorithm, key)
