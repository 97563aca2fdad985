"""Reads the keys of a JSON Web Key Set (RFC 7517)."""

from __future__ import annotations

import json
from typing import Any, Final

import jwt

from distributor.errors import Unavailable
from distributor.identity.token_keys import MAX_KEYS, TokenKey, algorithm_of

MAX_JWKS_BYTES: Final = 65_536
MAX_KEY_ID_CHARACTERS: Final = 256
_MAX_DEPTH_MARKS: Final = 8 * MAX_KEYS
_TYPES: Final = ("RSA", "EC", "OKP")


def keys_of(document: bytes) -> tuple[TokenKey, ...]:
    """The keys of a set that can verify tokens. Skips keys for other uses or of other kinds, symmetric ones included.

    Raises Unavailable if the document is too large, is no key set, or has no usable key or too many keys.
    """
    if len(document) > MAX_JWKS_BYTES:
        raise _unusable(f"it is over {MAX_JWKS_BYTES:,} bytes")
    if document.count(b"[") + document.count(b"{") > _MAX_DEPTH_MARKS:
        raise _unusable("it has too many values")
    try:
        entries = json.loads(document)["keys"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise _unusable("it is not a JSON Web Key Set") from error
    if not isinstance(entries, list) or len(entries) > MAX_KEYS:
        raise _unusable(f"it must list at most {MAX_KEYS} keys")
    keys = tuple(key for entry in entries if (key := _key_of(entry)) is not None)
    if not keys:
        raise _unusable("it has no key that can verify tokens")
    return keys


def _key_of(entry: Any) -> TokenKey | None:
    if not isinstance(entry, dict) or entry.get("kty") not in _TYPES or entry.get("use", "sig") != "sig":
        return None
    key_id = entry.get("kid")
    if not isinstance(key_id, str) or not 0 < len(key_id) <= MAX_KEY_ID_CHARACTERS:
        # Keys with ids only: the id is how a rotation is noticed.
        return None
    try:
        key = jwt.PyJWK(entry).key
    except (jwt.PyJWTError, ValueError, TypeError, AttributeError, OverflowError):
        return None
    algorithm = algorithm_of(key)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    return TokenKey(key_id, algorithm, key)


def _unusable(why: str) -> Unavailable:
    return Unavailable(f"the key set of jwks_url cannot be used: {why}")
