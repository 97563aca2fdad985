"""A certificate authority: issues certificates for identities that the caller has verified. No I/O."""

from __future__ import annotations

import hashlib
import ipaddress
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple, Self

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from distributor.errors import ConfigurationError, FailedPrecondition
from distributor.identity.certificate_generation import generation_extension
from distributor.identity.certificate_labels import labels_extension
from distributor.identity.certificates import BACKDATED, Holder, PeerKind
from distributor.identity.private_keys import new_key, private_pem
from distributor.identity.signing_requests import PublicKey
from distributor.identity.unreadable import UNREADABLE

CA_LIFETIME: Final = timedelta(days=3_650)

_MAX_COMMON_NAME: Final = 64
_LEAF_USE: Final = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_CLIENT_USE: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
_SERVER_USE: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH])
_CA_USE: Final = x509.KeyUsage(False, False, False, False, False, True, True, False, False)


class IssuedCertificate(NamedTuple):
    """A certificate in PEM, its serial number in hexadecimal, and when it expires, in seconds since the epoch."""

    pem: bytes
    serial: str
    expires: float


class Authority:
    """Signs with the key of one CA. Keys are ECDSA P-256, serial numbers random, subjects without meaning.

    `secret` is derived from the private key: every replica that issues for the same CA has the same.
    """

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key
        self.secret = hashlib.sha256(b"distributor authority secret\0" + private_pem(key)).digest()

    @classmethod
    def create(cls, now: datetime, lifetime: timedelta = CA_LIFETIME) -> Self:
        """Make a new CA with a random name, so that no two are mistaken for each other."""
        key = new_key()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"distributor CA {secrets.token_hex(4)}")])
        builder = _builder(name, name, key.public_key(), now, lifetime)
        certificate = (
            builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_CA_USE, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    @classmethod
    def from_pem(cls, certificates_pem: bytes, key_pem: bytes) -> Self:
        """Load a CA: of the certificates, the one that belongs to the private key. Raises ConfigurationError."""
        try:
            key = load_pem_private_key(key_pem, password=None)
        except UNREADABLE as error:
            raise _unusable("ca_key must be a private key in PEM, without a password") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.curve.name != "secp256r1":
            raise _unusable("ca_key must be an ECDSA key on the curve P-256")
        try:
            certificates = x509.load_pem_x509_certificates(certificates_pem)
        except UNREADABLE as error:
            raise ConfigurationError("client_ca must have certificates in PEM", field="client_ca") from error
        for certificate in certificates:
            if _has_key(certificate, key.public_key()):
                return cls(certificate, key)
        raise _unusable("ca_key belongs to none of the certificates of client_ca")

    @property
    def certificate_pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def certificate_der(self) -> bytes:
        """The CA's certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)

    @property
    def key_pem(self) -> bytes:
        """The CA's private key, not encrypted."""
        return private_pem(self._key)

    def has_issued(self, certificate: x509.Certificate) -> bool:
        """Whether this CA signed the certificate."""
        try:
            certificate.verify_directly_issued_by(self.certificate)
        except UNREADABLE:
            return False
        return True

    def has_issued_first(self, chain_pem: bytes) -> bool:
        """Whether this CA signed the first certificate of a chain; False if that cannot be read."""
        try:
            return self.has_issued(x509.load_pem_x509_certificates(chain_pem)[0])
        except UNREADABLE:
            return False

    def issue_peer(
        self, holder: Holder, trust_domain: str, key: PublicKey, now: datetime, lifetime: timedelta
    ) -> IssuedCertificate:
        """Issue a client certificate for an agent or a service, with its URI as the only name that counts.

        A service's certificate begins now, not BACKDATED like others: after a revocation, those count that begin later.
        The certificate never outlives that of the CA. Raises FailedPrecondition once the latter has expired.
        """
        peer = holder.peer
        if peer.kind is PeerKind.SERVICE:
            now, lifetime = now + BACKDATED, lifetime - BACKDATED
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, peer.name)] if len(peer.name) <= _MAX_COMMON_NAME else []
        names = [x509.UniformResourceIdentifier(peer.uri(trust_domain))]
        builder = self._leaf(attributes, names, key, now, lifetime).add_extension(_CLIENT_USE, critical=False)
        if holder.generation:
            builder = builder.add_extension(generation_extension(holder.generation), critical=False)
        if holder.labels:
            builder = builder.add_extension(labels_extension(holder.labels), critical=False)
        return self._signed(builder)

    def issue_server(
        self, hosts: Sequence[str], key: PublicKey, now: datetime, lifetime: timedelta
    ) -> IssuedCertificate:
        """Issue a server's certificate for these host names and IP addresses.

        Raises ConfigurationError for an invalid one, and FailedPrecondition once the CA has expired.
        """
        names = [_host_name(host) for host in hosts]
        return self._signed(self._leaf([], names, key, now, lifetime).add_extension(_SERVER_USE, critical=False))

    def _leaf(
        self,
        attributes: Sequence[x509.NameAttribute[str]],
        names: Sequence[x509.GeneralName],
        key: PublicKey,
        now: datetime,
        lifetime: timedelta,
    ) -> x509.CertificateBuilder:
        """All of a certificate but its use. Raises FailedPrecondition once that of the CA has expired."""
        left = self.certificate.not_valid_after_utc - now
        if left <= timedelta(0):
            raise FailedPrecondition("the certificate of the CA has expired", reason="CA_EXPIRED")
        issuer_key = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            _builder(x509.Name(attributes), self.certificate.subject, key, now, min(lifetime, left))
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_LEAF_USE, critical=True)
            .add_extension(x509.SubjectAlternativeName(names), critical=not attributes)
            .add_extension(issuer_key, critical=False)
        )

    def _signed(self, builder: x509.CertificateBuilder) -> IssuedCertificate:
        certificate = builder.sign(self._key, hashes.SHA256())
        return IssuedCertificate(
            certificate.public_bytes(Encoding.PEM),
            f"{certificate.serial_number:x}",
            certificate.not_valid_after_utc.timestamp(),
        )


def _builder(
    subject: x509.Name, issuer: x509.Name, key: PublicKey, now: datetime, lifetime: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now.astimezone(UTC) - BACKDATED)
        .not_valid_after(now.astimezone(UTC) + lifetime)
    )


def _has_key(certificate: x509.Certificate, key: PublicKey) -> bool:
    try:
        return certificate.public_key() == key
    except UNREADABLE:
        # It may be of another CA.
        return False


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        return x509.DNSName(host)
    except ValueError as error:
        raise ConfigurationError(f"{host!r} is neither a host name nor an IP address", field="host") from error


def _unusable(message: str) -> ConfigurationError:
    return ConfigurationError(message, field="ca_key")
