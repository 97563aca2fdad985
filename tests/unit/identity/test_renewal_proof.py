"""Only who has the old key renews, and only for a challenge that a server has just made."""

from __future__ import annotations

from distributor.identity.private_keys import new_key
from distributor.identity.renewal_proof import CHALLENGE_SECONDS, is_fresh, is_proved, new_challenge, sign_renewal

SECRET = b"s" * 32
NOW = 1_796_000_000.7


def test_a_challenge_is_fresh_for_a_minute() -> None:
    challenge = new_challenge(SECRET, NOW)
    assert is_fresh(challenge, SECRET, NOW + CHALLENGE_SECONDS - 1)
    assert not is_fresh(challenge, SECRET, NOW + CHALLENGE_SECONDS + 1)
    assert not is_fresh(challenge, SECRET, NOW - CHALLENGE_SECONDS - 1)


def test_challenges_of_others_are_not_fresh() -> None:
    assert not is_fresh(new_challenge(b"t" * 32, NOW), SECRET, NOW)
    challenge = bytearray(new_challenge(SECRET, NOW))
    challenge[7] ^= 1
    assert not is_fresh(bytes(challenge), SECRET, NOW)
    assert not is_fresh(b"", SECRET, NOW)


def test_the_signature_is_of_this_key_this_challenge_and_this_request() -> None:
    key, challenge = new_key(), new_challenge(SECRET, NOW)
    signature = sign_renewal(key, challenge, b"request")
    assert is_proved(key.public_key(), signature, challenge, b"request")
    assert not is_proved(new_key().public_key(), signature, challenge, b"request")
    assert not is_proved(key.public_key(), signature, new_challenge(SECRET, NOW), b"request")
    assert not is_proved(key.public_key(), signature, challenge, b"another request")
    assert not is_proved(key.public_key(), b"nonsense", challenge, b"request")
