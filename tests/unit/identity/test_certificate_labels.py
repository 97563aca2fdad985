"""Labels in certificates: what the authority writes is read back, and nothing else is."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509

from distributor.errors import Unauthenticated
from distributor.identity.authority import Authority
from distributor.identity.certificate_labels import LABELS_OID, labels_extension
from distributor.identity.certificates import Holder, PeerIdentity, PeerKind, PeerName, identity_of
from distributor.identity.private_keys import new_key
from distributor.model.labels import MAX_CREDENTIAL_LABELS_BYTES, canonical_labels
from tests.support.certificates import TRUST_DOMAIN, CertificateMaker

MAKER = CertificateMaker()
CA = Authority.create(datetime.now(UTC))
AGENT = PeerName(PeerKind.AGENT, "press-7")
KEY = new_key().public_key()


def issued(labels: dict[str, str]) -> bytes:
    holder = Holder(AGENT, 1, labels)
    return CA.issue_peer(holder, TRUST_DOMAIN, KEY, datetime.now(UTC), timedelta(days=1)).pem


def with_value(der: bytes) -> PeerIdentity:
    """The identity in a certificate whose extension has this value."""
    extension = x509.UnrecognizedExtension(LABELS_OID, der)
    return identity_of(
        MAKER.issue(uris=[MAKER.uri("agent/press-7")], extension=extension).certificate_pem, TRUST_DOMAIN
    )


def utf8_string(text: bytes) -> bytes:
    """In DER, for less than 128 bytes."""
    return bytes([0x0C, len(text)]) + text


@pytest.mark.parametrize("size", [1, 116, 117, 118, 240, 244, 245, 246, 250])
def test_labels_are_read_back_whatever_their_length(size: int) -> None:
    labels = {"site": "ü" * 2 + "x" * (size - 1)}
    identity = identity_of(issued(labels), TRUST_DOMAIN)
    assert identity.labels == labels
    assert (identity.peer, identity.generation) == (AGENT, 1)


def test_as_many_labels_as_there_may_be() -> None:
    labels = {f"{place:02}": "b" * (197 if place < 15 else 196) for place in range(20)}
    assert len(canonical_labels(labels)) == MAX_CREDENTIAL_LABELS_BYTES
    assert identity_of(issued(labels), TRUST_DOMAIN).labels == labels


def test_without_labels_there_is_no_extension() -> None:
    certificate = x509.load_pem_x509_certificate(issued({}))
    assert LABELS_OID not in {extension.oid for extension in certificate.extensions}
    assert identity_of(issued({}), TRUST_DOMAIN).labels == {}
    assert identity_of(MAKER.agent("press-7").certificate_pem, TRUST_DOMAIN).labels == {}


def test_programs_that_do_not_know_the_extension_ignore_it() -> None:
    extensions = x509.load_pem_x509_certificate(issued({"a": "b"})).extensions
    extension = extensions.get_extension_for_oid(LABELS_OID)
    assert not extension.critical
    assert extension.value == labels_extension({"a": "b"})
    assert extension.value.public_bytes() == utf8_string(b'{"a":"b"}')


@pytest.mark.parametrize(
    ("der", "why"),
    [
        (b"", "cannot be read"),
        (b"\x0c", "cannot be read"),
        (b"\x0c\x02{}\x00", "cannot be read"),
        (b'{"a":"b"}', "cannot be read"),
        (utf8_string(b"\xff"), "cannot be read"),
        (utf8_string(b'{"a":'), "cannot be read"),
        (utf8_string(b"[" * 120), "cannot be read"),
        (b"\x0c\x82\x10\x00" + b"[" * 4_096, "cannot be read"),
        (utf8_string(b"[]"), "must be an object"),
        (utf8_string(b'{"a":1}'), "must be an object"),
        (utf8_string(b'{"":"b"}'), "must have names"),
        (utf8_string(b'{"a":"\\ud800"}'), "printable"),
        (utf8_string(b'{"a":"b","a":"c"}'), "canonical"),
        (utf8_string(b'{"b":"1","a":"1"}'), "canonical"),
        (utf8_string(b'{"a": "b"}'), "canonical"),
        (utf8_string('{"a":"b"}'.encode("utf-16-le")), "canonical"),
        (b'\x16\x09{"a":"b"}', "canonical"),
        (b'\x0c\x08{"a":"b"}', "canonical"),
        (b'\x0c\x81\x09{"a":"b"}', "canonical"),
        (b'\x0c\x80{"a":"b"}\x00\x00', "cannot be read"),
        (b"\x0c\x82\x10\x01" + b" " * 4_097, "at most 4,096 bytes"),
    ],
)
def test_a_malformed_extension_refuses_the_certificate(der: bytes, why: str) -> None:
    with pytest.raises(Unauthenticated, match=f"the client certificate is refused: labels .*{why}") as caught:
        with_value(der)
    assert caught.value.reason == "CERTIFICATE_REFUSED"
