from __future__ import annotations

import jwt
import pytest

from distributor.errors import ResourceExhausted, Unauthenticated
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.token_keys import key_ring
from distributor.identity.tokens import MAX_REMEMBERED, TokenVerifier
from distributor.settings import ServerSettings
from tests.support.token_issuer import KEY, RULES, claims, signed


class CountingVerifier(TokenVerifier):
    """Counts the tokens that are looked at."""

    checks = 0

    def verify(self, token: str, now: float | None = None) -> object:  # type: ignore[override]
        self.checks += 1
        return super().verify(token, now)


class World:
    """Attempts of one verifier at a time that the test sets."""

    def __init__(self, rate: float = 1.0, burst: float = 2.0, max_sources: int = 100) -> None:
        self.now = 0.0
        self.verifier = CountingVerifier(key_ring([KEY], []), RULES)
        self.attempts = CredentialAttempts(rate, burst, lambda: self.now, max_sources)

    def forged(self, address: str) -> str:
        """What a forged token from there gets."""
        return self.verify("forged", address)

    def flood(self, address: str) -> None:
        """Forged tokens from there until no more are checked."""
        assert "RESOURCE_EXHAUSTED" in [self.forged(address) for _ in range(10)]

    def verify(self, token: str, address: str) -> str:
        try:
            self.attempts.verify(self.verifier, token, address)
        except (Unauthenticated, ResourceExhausted) as error:
            return error.code
        return "OK"


def test_after_too_many_nothing_unknown_of_an_address_is_checked_until_later() -> None:
    world = World()
    assert [world.forged("192.0.2.7") for _ in range(4)] == ["UNAUTHENTICATED"] * 2 + ["RESOURCE_EXHAUSTED"] * 2
    assert world.verifier.checks == 2, "no signature is checked any more"
    assert world.verify(signed(), "192.0.2.7") == "RESOURCE_EXHAUSTED"
    assert world.verify(signed(), "192.0.2.8") == "OK"
    with pytest.raises(ResourceExhausted) as caught:
        world.attempts.check("192.0.2.7")
    assert caught.value.retry_after_seconds == 1.0
    world.now = 1.0
    assert world.verify(signed(), "192.0.2.7") == "OK"
    assert [world.forged("192.0.2.7") for _ in range(2)] == ["UNAUTHENTICATED", "RESOURCE_EXHAUSTED"]


def test_those_whose_token_is_remembered_are_served_at_the_same_address() -> None:
    world, known = World(), signed()
    assert world.verify(known, "192.0.2.7") == "OK"
    world.flood("192.0.2.7")
    assert world.verify(known, "192.0.2.7") == "OK"


def test_tokens_that_verify_cost_nothing() -> None:
    world = World()
    assert {world.verify(signed(), "192.0.2.7") for _ in range(50)} == {"OK"}
    assert len(world.attempts) == 0


def test_expired_tokens_of_many_hosts_at_an_address_keep_out_no_valid_one() -> None:
    world = World()
    expired = [signed(sub=f"agent-{n}", exp=1) for n in range(20)]
    for _ in range(3):
        assert {world.verify(token, "192.0.2.7") for token in expired} == {"UNAUTHENTICATED"}
    assert world.verify(signed(), "192.0.2.7") == "OK"


def test_tokens_that_name_a_key_removed_since_keep_out_no_valid_one() -> None:
    world = World()
    replaced = [jwt.encode(claims(), "x" * 32, headers={"kid": f"removed {n}"}) for n in range(20)]
    assert {world.verify(token, "192.0.2.7") for token in replaced} == {"UNAUTHENTICATED"}
    assert world.verify(signed(), "192.0.2.7") == "OK"


def test_as_many_tokens_as_agents_are_remembered() -> None:
    assert ServerSettings().max_agents <= MAX_REMEMBERED
    world = World()
    known = [signed(sub=f"agent-{n}") for n in range(2_000)]
    for _ in range(2):
        assert {world.verify(token, "192.0.2.7") for token in known} == {"OK"}
        world.flood("192.0.2.7")


def test_zero_is_no_limit() -> None:
    world = World(rate=0.0)
    assert {world.forged("192.0.2.7") for _ in range(50)} == {"UNAUTHENTICATED"}


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("192.0.2.7", "::ffff:192.0.2.7", True),
        ("192.0.2.7", "192.0.2.8", False),
        ("service:bridge", "service:bridge", True),
        ("unix", "192.0.2.7", False),
    ],
)
def test_addresses_that_one_host_may_choose_count_together(one: str, other: str, same: bool) -> None:
    world = World()
    world.flood(one)
    assert (world.forged(other) == "RESOURCE_EXHAUSTED") is same


def test_only_so_many_addresses_are_remembered() -> None:
    world = World(max_sources=5)
    for number in range(50):
        world.forged(f"192.0.2.{number}")
    assert len(world.attempts) == 5
