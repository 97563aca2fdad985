"""Identities in certificates: exactly one, of this trust domain, or refused with a reason."""

from __future__ import annotations

import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtensionOID

from distributor.errors import Unauthenticated
from distributor.identity.certificates import PeerKind, PeerName, current_identity, identity_of
from tests.support.certificates import HOUR, CertificateMaker

CA = CertificateMaker()


def identity(pem: bytes) -> PeerName:
    return identity_of(pem, "distributor").peer


def test_an_agent_and_a_service_are_told_by_their_uri() -> None:
    assert identity(CA.agent("press-7").certificate_pem) == (PeerKind.AGENT, "press-7")
    assert identity(CA.service("billing").certificate_pem) == (PeerKind.SERVICE, "billing")


def test_the_common_name_does_not_count() -> None:
    pem = CA.issue(uris=[CA.uri("agent/press-7")], common_name="press-8").certificate_pem
    assert identity(pem).name == "press-7"


@pytest.mark.parametrize(
    ("uris", "why"),
    [
        ((CA.uri("agent/a"), CA.uri("agent/b")), "2 subject alternative names"),
        ((), "no subject alternative name"),
        (("spiffe://elsewhere/agent/a",), "trust domain"),
        (("spiffe://distributor.evil/agent/a",), "trust domain"),
        (("spiffe://distributor",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a/b",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a%2Fb",), "neither an agent nor a service"),
        (("spiffe://distributor/agent/a?x=1",), "neither an agent nor a service"),
        (("spiffe://distributor/user/a",), "neither an agent nor a service"),
        (("spiffe://distributor/AGENT/a",), "neither an agent nor a service"),
        (("SPIFFE://distributor/agent/a",), "not a SPIFFE id"),
        (("https://distributor/agent/a",), "not a SPIFFE id"),
        (("spiffe://distributor/agent/" + "a" * 129,), "neither an agent nor a service"),
    ],
)
def test_other_uris_are_refused(uris: tuple[str, ...], why: str) -> None:
    with pytest.raises(Unauthenticated, match=why) as caught:
        identity(CA.issue(uris=uris).certificate_pem)
    assert caught.value.reason == "CERTIFICATE_REFUSED"


def test_a_uri_beside_a_host_name_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="2 subject alternative names"):
        identity(CA.issue(uris=[CA.uri("agent/a")], hosts=["localhost"]).certificate_pem)


def test_a_server_is_nobody() -> None:
    with pytest.raises(Unauthenticated, match="not a URI"):
        identity(CA.server("localhost").certificate_pem)


@pytest.mark.parametrize("pem", [b"", b"nonsense", b"x" * 100_000, CA.key_pem])
def test_what_is_no_certificate_is_refused(pem: bytes) -> None:
    with pytest.raises(Unauthenticated):
        identity(pem)


@pytest.mark.parametrize(
    "extension",
    [
        x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004a3023000")),
        x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, bytes.fromhex("3004870201ff")),
        x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, b"nonsense"),
    ],
    ids=["an X.400 address", "a short IP address", "nonsense"],
)
def test_names_that_cannot_be_read_are_refused(extension: x509.UnrecognizedExtension) -> None:
    with pytest.raises(Unauthenticated, match="cannot be read"):
        identity(CA.issue(extension=extension).certificate_pem)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_a_damaged_certificate_is_refused_wherever_the_damage_is() -> None:
    der = x509.load_pem_x509_certificate(CA.agent("press-7").certificate_pem).public_bytes(Encoding.DER)
    read = 0
    for place in range(len(der)):
        for damage in (0x01, 0x05, 0x80, 0xFF):
            damaged = bytearray(der)
            damaged[place] ^= damage
            try:
                identity(ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode())
            except Unauthenticated:
                continue
            read += 1
    assert read, "some of it is for the transport to check, such as the signature"


def test_a_certificate_that_expired_during_its_connection_is_refused() -> None:
    pem = CA.agent("press-7").certificate_pem
    expires = identity_of(pem, "distributor").expires
    assert current_identity(pem, "distributor", expires - 1).peer.name == "press-7"
    with pytest.raises(Unauthenticated, match="expired"):
        current_identity(pem, "distributor", expires)
    assert expires - identity_of(pem, "distributor").starts == HOUR.total_seconds()


def test_a_qualifier_in_the_subject_is_no_generation() -> None:
    pem = CA.issue(uris=[CA.uri("agent/press-7")], qualifier="9").certificate_pem
    assert identity_of(pem, "distributor").generation == 0


def test_a_certificate_of_another_ca_has_no_generation() -> None:
    assert identity_of(CA.agent("press-7").certificate_pem, "distributor").generation == 0
