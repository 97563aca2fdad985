from __future__ import annotations

import base64
import json
import time
from typing import Any, cast

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from distributor.errors import ConfigurationError, PermissionDenied
from distributor.identity.tokens import LEEWAY_SECONDS, Identity, Scope, TokenVerifier, mint

KEY = "k" * 32
AUDIENCE = "command-distributor"
LIFETIME = 60

PRIVATE: dict[str, Any] = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def claims(*, lifetime: int = LIFETIME, issued_in: int = 0, **changes: Any) -> dict[str, Any]:
    """Claims as of now: made when a test runs, as a whole test run may take longer than they live."""
    now = int(time.time())
    usual = {"sub": "alice", "aud": AUDIENCE, "iat": now + issued_in, "exp": now + lifetime}
    return usual | {"scope": "dashboard:read x"} | changes


def pem_of(private: Any) -> bytes:
    pem: bytes = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem


PEMS = {f"{algorithm}.pem": pem_of(private) for algorithm, private in PRIVATE.items()}


def test_a_minted_token_says_who_and_what() -> None:
    now = int(time.time())
    token = mint(KEY, "alice", [Scope.READ, Scope.WRITE], AUDIENCE, now, now + LIFETIME)
    identity = TokenVerifier(AUDIENCE, KEY).verify(token)
    assert identity == Identity("alice", frozenset(Scope), now + LIFETIME)


@pytest.mark.parametrize("algorithm", PRIVATE)
def test_public_keys_of_each_kind(algorithm: str) -> None:
    token = jwt.encode(claims(), PRIVATE[algorithm], algorithm=algorithm)
    assert TokenVerifier(AUDIENCE, KEY, PEMS).verify(token).scopes == {Scope.READ}


def test_any_of_several_keys_of_one_kind() -> None:
    old, new = ed25519.Ed25519PrivateKey.generate(), ed25519.Ed25519PrivateKey.generate()
    verifier = TokenVerifier(AUDIENCE, "", {"old.pem": pem_of(old), "new.pem": pem_of(new)})
    for private in (old, new):
        assert verifier.verify(jwt.encode(claims(), private, algorithm="EdDSA")).subject == "alice"
    with pytest.raises(PermissionDenied):
        verifier.verify(jwt.encode(claims(), PRIVATE["EdDSA"], algorithm="EdDSA"))


@pytest.mark.parametrize("missing", ["exp", "iat", "sub", "aud"])
def test_every_claim_is_required(missing: str) -> None:
    others = {name: value for name, value in claims().items() if name != missing}
    with pytest.raises(PermissionDenied, match=f"has no {missing}"):
        TokenVerifier(AUDIENCE, KEY).verify(jwt.encode(others, KEY))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"lifetime": -LEEWAY_SECONDS - 2}, "expired"),
        ({"issued_in": 600}, "not valid"),
        ({"aud": "other"}, "another audience"),
        ({"sub": 7}, "not valid"),
        ({"sub": ""}, "has an empty sub"),
    ],
)
def test_claims_that_will_not_do(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(PermissionDenied, match=why):
        TokenVerifier(AUDIENCE, KEY).verify(jwt.encode(claims(**changes), KEY))


def test_a_public_key_is_no_shared_key() -> None:
    """The oldest trick: sign with the public key's text as if it were an HS256 secret."""
    header = base64.urlsafe_b64encode(b'{"alg":"HS256","typ":"JWT"}').rstrip(b"=")
    body = base64.urlsafe_b64encode(json.dumps(claims()).encode()).rstrip(b"=")
    signature = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(
        header + b"." + body, PEMS["RS256.pem"]
    )
    forged = b".".join([header, body, base64.urlsafe_b64encode(signature).rstrip(b"=")]).decode()
    for verifier in (TokenVerifier(AUDIENCE, "", PEMS), TokenVerifier(AUDIENCE, KEY, PEMS)):
        with pytest.raises(PermissionDenied):
            verifier.verify(forged)


def test_no_signature_is_not_enough() -> None:
    with pytest.raises(PermissionDenied, match="algorithm"):
        TokenVerifier(AUDIENCE, KEY, PEMS).verify(jwt.encode(claims(), cast(Any, None), algorithm="none"))


@pytest.mark.parametrize("scope", [None, 7, ["dashboard:read"], "dashboard:readx", ""])
def test_scopes_that_are_none(scope: object) -> None:
    assert TokenVerifier(AUDIENCE, KEY).verify(jwt.encode(claims(scope=scope), KEY)).scopes == set()


@pytest.mark.parametrize(
    ("key", "pem", "field"),
    [
        ("", None, "token_key"),
        ("k" * 31, None, "token_key"),
        ("\udcff" * 31, None, "token_key"),
        (KEY, b"not a key", "public_keys"),
        (KEY, pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "public_keys"),
        (KEY, pem_of(ec.generate_private_key(ec.SECP384R1())), "public_keys"),
    ],
)
def test_keys_that_will_not_do(key: str, pem: bytes | None, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        TokenVerifier(AUDIENCE, key, {} if pem is None else {**PEMS, "bad.pem": pem})
    assert caught.value.field == field
    assert (pem is None) is not str(caught.value).startswith("bad.pem (public_keys) ")


def _part(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "token",
    [
        "",
        "." * 8_000,
        "x" * 8_193,
        "\ud800.x.y",
        "\u00e9.\u00e9.\u00e9",
        f"{_part('[' * 6_000)}.e30.x",
        f"{_part('[]')}.e30.x",
        f"""{_part('{"alg":["HS256"]}')}.e30.x""",
        f"""{_part('{"alg":' + "9" * 5_000 + "}")}.e30.x""",
        f"""{_part('{"alg":"HS256","b64":false,"crit":["b64"]}')}.e30.x""",
    ],
)
def test_whatever_is_sent_as_a_token_is_refused(token: str) -> None:
    with pytest.raises(PermissionDenied):
        TokenVerifier(AUDIENCE, KEY, PEMS).verify(token)


@pytest.mark.parametrize("expires", [10**400, float("inf"), 10**15, [1], "never", None])
def test_an_odd_expiry_is_refused_even_if_it_is_signed(expires: object) -> None:
    token = jwt.encode(claims(exp=expires), KEY, algorithm="HS256")
    with pytest.raises(PermissionDenied):
        TokenVerifier(AUDIENCE, KEY).verify(token)
