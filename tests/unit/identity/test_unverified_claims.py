from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from distributor.identity.unverified_claims import UnverifiedClaims, unverified_claims
from tests.support.token_issuer import signed


def token_with(claims: Any) -> str:
    payload = base64.urlsafe_b64encode(json.dumps(claims).encode()).decode().rstrip("=")
    return f"e30.{payload}.c2ln"


def test_a_token_says_whose_it_is_and_until_when() -> None:
    assert unverified_claims(signed(exp=4_000_000_000)) == UnverifiedClaims("alice", 4_000_000_000)


@pytest.mark.parametrize(
    "text", ["", "opaque", "a.b", "a.!.c", "a.ä.c", "a.e30.c.d", "a.W10.c", token_with("x"), "..."]
)
def test_what_is_not_a_token_says_nothing(text: str) -> None:
    assert unverified_claims(text) is None


@pytest.mark.parametrize("expires", [None, "soon", True, -1, float("inf"), float("nan"), 1e300, [1]])
def test_what_is_not_a_time_is_none(expires: object) -> None:
    assert unverified_claims(token_with({"sub": 1, "exp": expires})) == UnverifiedClaims("", None)
