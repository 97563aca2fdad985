from __future__ import annotations

import json
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from distributor.errors import Unavailable
from distributor.identity.jwks import MAX_JWKS_BYTES, keys_of
from distributor.identity.token_keys import MAX_KEYS, KeyRing
from distributor.identity.tokens import TokenVerifier
from tests.support.token_issuer import KEY, PRIVATE, RULES, claims, jwk_of


def key_set(*entries: Any) -> bytes:
    return json.dumps({"keys": entries}).encode()


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_keys_of_each_kind_verify(algorithm: str) -> None:
    keys = keys_of(key_set(jwk_of(algorithm, "of the issuer")))
    token = jwt.encode(claims(), PRIVATE[algorithm], algorithm=algorithm, headers={"kid": "of the issuer"})
    assert TokenVerifier(KeyRing(keys), RULES).verify(token).subject == "alice"


USABLE = jwk_of("ES256", "usable")


@pytest.mark.parametrize(
    "entry",
    [
        {"kty": "oct", "k": "a2V5", "kid": "shared", "alg": "HS256"},
        jwk_of("ES256", "x", use="enc"),
        jwk_of("ES256", "x", alg="RS256"),
        jwk_of("ES256", "x", alg="HS256"),
        jwk_of("ES256", ""),
        jwk_of("ES256", "x" * 257),
        {name: value for name, value in jwk_of("ES256", "x").items() if name != "kid"},
        jwk_of("ES256", "x", crv="P-999"),
        jwk_of("RS256", "x", n="!"),
        jwk_of("RS256", "x", rsa.generate_private_key(public_exponent=65537, key_size=1024)),
        jwk_of("ES256", "x", ec.generate_private_key(ec.SECP384R1())),
        jwk_of("EdDSA", "x", x=7),
        jwk_of("ES256", "x", kty=["EC"]),
        jwk_of("ES256", "x", use={}),
        jwk_of("ES256", "x", alg=["ES256"]),
        "text",
        None,
    ],
)
def test_an_entry_that_cannot_verify_is_skipped(entry: object) -> None:
    assert [key.key_id for key in keys_of(key_set(entry, USABLE))] == ["usable"]


@pytest.mark.parametrize(
    "document",
    [
        b"",
        b"<html>",
        b"[]",
        b"{}",
        b'{"keys": 7}',
        key_set(),
        key_set({"kty": "oct", "k": KEY, "kid": "x"}),
        key_set(*[USABLE] * (MAX_KEYS + 1)),
        key_set(USABLE) + b" " * MAX_JWKS_BYTES,
        b'{"keys": ' + b"[" * 10_000,
        b'{"keys": ' + b"9" * 5_000 + b"}",
        b"\xff",
    ],
)
def test_what_is_no_key_set_is_refused(document: bytes) -> None:
    with pytest.raises(Unavailable, match="the key set of jwks_url cannot be used"):
        keys_of(document)
