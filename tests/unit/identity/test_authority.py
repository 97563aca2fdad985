"""The CA issues what the caller has decided, whatever a request says of itself."""

from __future__ import annotations

import base64
import ssl
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID

from distributor.errors import ConfigurationError, FailedPrecondition, InvalidArgument
from distributor.identity.authority import Authority
from distributor.identity.certificates import BACKDATED, Holder, PeerKind, PeerName, identity_of
from distributor.identity.private_keys import new_key, private_key, private_pem
from distributor.identity.signing_requests import requested_key, signing_request
from tests.support.certificates import CertificateMaker, request_pem

NOW = datetime(2026, 11, 30, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
AGENT = PeerName(PeerKind.AGENT, "press-7")
CA = Authority.create(NOW)


def test_it_issues_for_the_identity_it_is_given_and_ignores_names_in_the_request() -> None:
    key = new_key()
    request = request_pem(["spiffe://distributor/agent/press-8"], key)
    issued = CA.issue_peer(Holder(AGENT, 3), "distributor", requested_key(request), NOW, DAY)
    identity = identity_of(issued.pem, "distributor")
    assert identity.peer == AGENT
    assert identity.generation == 3
    assert identity.expires == issued.expires == (NOW + DAY).timestamp()
    certificate = x509.load_pem_x509_certificate(issued.pem)
    assert certificate.public_key() == key.public_key()
    assert certificate.not_valid_before_utc == NOW - BACKDATED
    assert CA.has_issued(certificate)


def test_an_agents_certificate_is_for_clients_only() -> None:
    issued = CA.issue_peer(Holder(AGENT), "distributor", new_key().public_key(), NOW, DAY)
    certificate = x509.load_pem_x509_certificate(issued.pem)
    uses = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert list(uses) == [ExtendedKeyUsageOID.CLIENT_AUTH]
    assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_long_agent_id_has_a_certificate_too() -> None:
    name = PeerName(PeerKind.AGENT, "a" * 128)
    issued = CA.issue_peer(Holder(name, 1), "distributor", new_key().public_key(), NOW, DAY)
    assert identity_of(issued.pem, "distributor").peer == name


def test_serial_numbers_do_not_repeat() -> None:
    key = new_key().public_key()
    assert len({CA.issue_peer(Holder(AGENT), "distributor", key, NOW, DAY).serial for _ in range(20)}) == 20


def test_no_certificate_outlives_the_ca() -> None:
    short = Authority.create(NOW, DAY)
    key = new_key().public_key()
    assert short.issue_peer(Holder(AGENT), "distributor", key, NOW, 9 * DAY).expires == (NOW + DAY).timestamp()
    with pytest.raises(FailedPrecondition) as caught:
        short.issue_peer(Holder(AGENT), "distributor", key, NOW + 2 * DAY, DAY)
    assert caught.value.reason == "CA_EXPIRED"


def test_a_server_has_its_hosts_and_no_identity() -> None:
    issued = CA.issue_server(["localhost", "127.0.0.1", "::1"], new_key().public_key(), NOW, DAY)
    certificate = x509.load_pem_x509_certificate(issued.pem)
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["localhost"]
    assert [str(address) for address in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1", "::1"]


def test_a_ca_is_loaded_from_a_bundle_by_its_key() -> None:
    other = CertificateMaker()
    loaded = Authority.from_pem(other.pem + CA.certificate_pem, CA.key_pem)
    assert loaded.certificate == CA.certificate
    assert loaded.secret == CA.secret


def test_a_ca_that_cannot_sign_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="none of the certificates"):
        Authority.from_pem(CertificateMaker().pem, CA.key_pem)
    with pytest.raises(ConfigurationError, match="P-256"):
        Authority.from_pem(CA.certificate_pem, private_pem(ec.generate_private_key(ec.SECP384R1())))
    with pytest.raises(ConfigurationError, match="without a password"):
        Authority.from_pem(CA.certificate_pem, b"nonsense")
    with pytest.raises(ConfigurationError, match="client_ca"):
        Authority.from_pem(b"nonsense", CA.key_pem)


def test_certificates_of_another_ca_are_not_its_own() -> None:
    other = x509.load_pem_x509_certificate(CertificateMaker("other").agent("press-7").certificate_pem)
    assert not CA.has_issued(other)
    assert not CA.has_issued(CertificateMaker().certificate)


def test_a_request_proves_possession_of_its_key() -> None:
    key = new_key()
    assert requested_key(signing_request(key)) == key.public_key()
    forged = bytearray(x509.load_pem_x509_csr(signing_request(key)).public_bytes(Encoding.DER))
    forged[-1] ^= 1
    pem = x509.load_der_x509_csr(bytes(forged)).public_bytes(Encoding.PEM)
    with pytest.raises(InvalidArgument, match="signed with its own key") as caught:
        requested_key(pem)
    assert caught.value.field == "certificate_request"


def test_other_requests_are_refused() -> None:
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    other = builder.sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(Encoding.PEM)
    with pytest.raises(InvalidArgument, match="P-256"):
        requested_key(other)
    with pytest.raises(InvalidArgument, match="PKCS 10"):
        requested_key(b"nonsense")
    with pytest.raises(InvalidArgument, match="16,384 bytes"):
        requested_key(b"x" * 20_000)


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_damaged_request_has_another_key() -> None:
    key = new_key()
    der = x509.load_pem_x509_csr(signing_request(key)).public_bytes(Encoding.DER)
    read = 0
    for place in range(len(der)):
        for damage in (0x01, 0x05, 0x80, 0xFF):
            damaged = bytearray(der)
            damaged[place] ^= damage
            pem = b"-----BEGIN CERTIFICATE REQUEST-----\n%b-----END CERTIFICATE REQUEST-----\n"
            try:
                assert requested_key(pem % base64.encodebytes(damaged)) == key.public_key()
            except InvalidArgument:
                continue
            read += 1
    assert read <= 4, "only the number of unused bits of the signature does not matter"


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_no_damaged_certificate_is_the_cas_own() -> None:
    issued = CA.issue_peer(Holder(AGENT), "distributor", new_key().public_key(), NOW, DAY)
    der = x509.load_pem_x509_certificate(issued.pem).public_bytes(Encoding.DER)
    assert CA.has_issued_first(issued.pem)
    for place in range(len(der)):
        damaged = bytearray(der)
        damaged[place] ^= 0x05
        assert not CA.has_issued_first(ssl.DER_cert_to_PEM_cert(bytes(damaged)).encode()), place


def test_a_private_key_is_read_back() -> None:
    key = new_key()
    assert private_pem(private_key(private_pem(key))) == private_pem(key)
    other = ed25519.Ed25519PrivateKey.generate()
    with pytest.raises(ValueError, match="ECDSA"):
        private_key(other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))


def test_a_service_has_a_certificate_from_now_on() -> None:
    """After a revocation, those count that begin later."""
    now = datetime.now(UTC).replace(microsecond=0)
    authority = Authority.create(now)
    holder = Holder(PeerName(PeerKind.SERVICE, "billing"))
    issued = authority.issue_peer(holder, "distributor", new_key().public_key(), now, timedelta(hours=1))
    identity = identity_of(issued.pem, "distributor")
    assert (identity.starts, identity.expires) == (now.timestamp(), now.timestamp() + 3_600)
