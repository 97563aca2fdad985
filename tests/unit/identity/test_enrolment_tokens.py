"""Enrolment tokens as text."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.errors import InvalidArgument
from distributor.identity.enrolment_tokens import TokenSecret, parsed_token, token_text
from tests.support.certificates import CertificateMaker

CA = b"secret of a CA"


def test_a_token_carries_its_secret_and_the_ca() -> None:
    maker, token = CertificateMaker(), TokenSecret.new(CA, "press-7", {})
    text = token_text(token, maker.certificate.public_bytes(Encoding.DER))
    assert len(text) < 1_000
    parsed, ca = parsed_token(text)
    assert parsed == token
    assert ca.split() == maker.pem.split()


def test_a_token_may_have_no_ca() -> None:
    token = TokenSecret.new(CA, "press-7", {})
    assert parsed_token(token_text(token, b"")) == (token, b"")


def test_the_digest_is_not_the_secret() -> None:
    token = TokenSecret.new(CA, "press-7", {})
    assert token.secret not in token.digest
    assert token.digest == TokenSecret("other", token.secret).digest


@pytest.mark.parametrize("damage", ["", "enrol", "jwt.a.b.", "enrol.x.y.", "{text}!", "{cut}", "x" * 20_000])
def test_a_damaged_token_is_refused_without_being_repeated(damage: str) -> None:
    text = token_text(TokenSecret.new(CA, "press-7", {}), b"certificate")
    with pytest.raises(InvalidArgument, match="malformed") as caught:
        parsed_token(damage.format(text=text, cut=text[:50]))
    assert text[20:] not in str(caught.value)


def test_only_the_ca_makes_a_token_and_for_one_purpose() -> None:
    token = TokenSecret.new(CA, "press-7", {"site": "lab", "line": "1"})
    assert token.is_for(CA, "press-7", {"line": "1", "site": "lab"})
    assert not token.is_for(b"secret of another CA", "press-7", {"site": "lab", "line": "1"})
    assert not token.is_for(CA, "press-8", {"site": "lab", "line": "1"})
    assert not token.is_for(CA, "press-7", {"site": "lab"})
    assert not token._replace(token_id="another").is_for(CA, "press-7", {"site": "lab", "line": "1"})
    assert TokenSecret.new(CA, "press-7", {}) != TokenSecret.new(CA, "press-7", {})
