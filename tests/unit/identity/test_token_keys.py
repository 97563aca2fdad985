from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from distributor.errors import ConfigurationError
from distributor.identity.token_keys import MAX_KEYS, MAX_UNNAMED, key_ring, shared_key
from tests.support.token_issuer import KEY, PEMS, pem_of


@pytest.mark.parametrize(
    ("key", "pem", "field"),
    [
        ("k" * 31, None, "token_key"),
        ("\udcff" * 31, None, "token_key"),
        (KEY, b"not a key", "public_keys"),
        (KEY, pem_of(rsa.generate_private_key(public_exponent=65537, key_size=1024)), "public_keys"),
        (KEY, pem_of(ec.generate_private_key(ec.SECP384R1())), "public_keys"),
    ],
)
def test_keys_that_will_not_do(key: str, pem: bytes | None, field: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        key_ring([key], [] if pem is None else [*PEMS, ("bad.pem", pem)])
    assert caught.value.field == field
    assert (pem is None) is not str(caught.value).startswith("bad.pem (public_keys) ")


def test_there_are_not_more_keys_than_a_token_may_be_tried_with() -> None:
    keys = [f"{place:032}" for place in range(MAX_KEYS + 1)]
    assert len(key_ring(keys[1:], []).keys) == MAX_KEYS
    with pytest.raises(ConfigurationError, match="the limit is 32"):
        key_ring(keys, [])


def test_there_are_only_so_many_keys_without_an_id() -> None:
    pems = [(f"{place}.pem", pem_of(ec.generate_private_key(ec.SECP256R1()))) for place in range(MAX_UNNAMED + 1)]
    assert len(key_ring([], pems[1:]).keys) == MAX_UNNAMED
    with pytest.raises(ConfigurationError, match="9 of public_keys are for ES256, the limit is 8") as caught:
        key_ring([], pems)
    assert caught.value.field == "public_keys"


def test_the_first_shared_key_signs() -> None:
    ring = key_ring(["a" * 32, "b" * 32], PEMS)
    assert ring.signing == shared_key("a" * 32)
    assert key_ring([], PEMS).signing is None


def test_the_id_of_a_shared_key_is_its_own_and_does_not_show_it() -> None:
    first, second = shared_key("a" * 32), shared_key("b" * 32)
    assert first.key_id == shared_key("a" * 32).key_id != second.key_id
    assert "a" * 8 not in first.key_id


def test_a_key_is_found_by_algorithm_and_id() -> None:
    ring = key_ring(["a" * 32, "b" * 32], PEMS)
    first, second = ring.keys[:2]
    assert ring.candidates("HS256", "") == [first, second]
    assert ring.candidates("HS256", second.key_id) == [second]
    assert ring.candidates("HS256", "other") == []
    assert [key.algorithm for key in ring.candidates("ES256", "any")] == ["ES256"]
    assert ring.candidates("none", "") == []
