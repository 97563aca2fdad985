"""Certificates for tests, made in memory: a CA, and certificates with any names and times, also those to be refused."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

TRUST_DOMAIN: Final = "distributor"
"""The default of the setting `trust_domain`."""
HOUR: Final = timedelta(hours=1)
LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")

_DIGITAL_SIGNATURE: Final = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
_CERT_SIGN: Final = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
_BOTH_ENDS: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])


class CertificateFiles(NamedTuple):
    """Where a certificate, its key and its CA's certificate are, all in PEM."""

    certificate: Path
    key: Path
    ca: Path


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its private key in PEM, and the certificate of the CA that signed it."""

    certificate_pem: bytes
    key_pem: bytes
    ca_pem: bytes

    def write(self, folder: Path, name: str = "peer") -> CertificateFiles:
        """Write `NAME.pem`, `NAME-key.pem` and `NAME-ca.pem` into the folder; replaces earlier ones."""
        folder.mkdir(parents=True, exist_ok=True)
        files = CertificateFiles(folder / f"{name}.pem", folder / f"{name}-key.pem", folder / f"{name}-ca.pem")
        for path, pem in zip(files, (self.certificate_pem, self.key_pem, self.ca_pem), strict=True):
            path.touch(mode=0o600)
            path.write_bytes(pem)
        return files


class CertificateMaker:
    """A CA in memory. `trust_domain` is that of the identities of `agent` and `service`."""

    def __init__(self, name: str = "test CA", trust_domain: str = TRUST_DOMAIN) -> None:
        self.trust_domain = trust_domain
        self.key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        now = datetime.now(UTC)
        self.certificate = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(days=365))
            .not_valid_after(now + timedelta(days=365))
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_CERT_SIGN, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()), critical=False)
            .sign(self.key, hashes.SHA256())
        )

    @property
    def pem(self) -> bytes:
        """The CA's certificate."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        """The CA's private key."""
        return private_pem(self.key)

    def agent(self, agent_id: str, *, valid_from: datetime | None = None, lifetime: timedelta = HOUR) -> Issued:
        """A client certificate of an agent."""
        return self.issue(uris=[self.uri(f"agent/{agent_id}")], valid_from=valid_from, lifetime=lifetime)

    def service(self, name: str, *, valid_from: datetime | None = None, lifetime: timedelta = HOUR) -> Issued:
        """A client certificate of a service."""
        return self.issue(uris=[self.uri(f"service/{name}")], valid_from=valid_from, lifetime=lifetime)

    def server(self, *hosts: str, valid_from: datetime | None = None, lifetime: timedelta = HOUR) -> Issued:
        """A server's certificate for these host names and addresses; loopback without any."""
        return self.issue(hosts=hosts or LOOPBACK, valid_from=valid_from, lifetime=lifetime)

    def uri(self, path: str) -> str:
        """A SPIFFE id of this CA's trust domain; `path` is such as `agent/press-7`."""
        return f"spiffe://{self.trust_domain}/{path}"

    def issue(
        self,
        *,
        uris: Sequence[str] = (),
        hosts: Sequence[str] = (),
        valid_from: datetime | None = None,
        lifetime: timedelta = HOUR,
        common_name: str = "",
        key: ec.EllipticCurvePrivateKey | None = None,
        extension: x509.ExtensionType | None = None,
        qualifier: str = "",
    ) -> Issued:
        """A certificate with any names: URIs, and host names or IP addresses. `valid_from` is a minute ago by default.

        Without names, it has no subject alternative name at all. `extension` is one more, not critical.
        `qualifier` is a dnQualifier in the subject.
        """
        key = key or ec.generate_private_key(ec.SECP256R1())
        starts = valid_from or datetime.now(UTC) - timedelta(minutes=1)
        attributes = [x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else []
        if qualifier:
            attributes.append(x509.NameAttribute(NameOID.DN_QUALIFIER, qualifier))
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name(attributes))
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(starts)
            .not_valid_after(starts + lifetime)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_DIGITAL_SIGNATURE, critical=True)
            .add_extension(_BOTH_ENDS, critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        names = [*(x509.UniformResourceIdentifier(uri) for uri in uris), *map(_host_name, hosts)]
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=not attributes)
        if extension is not None:
            builder = builder.add_extension(extension, critical=False)
        certificate = builder.sign(self.key, hashes.SHA256())
        return Issued(certificate.public_bytes(Encoding.PEM), private_pem(key), self.pem)


def expired(maker: CertificateMaker, agent_id: str) -> Issued:
    """An agent's certificate that expired an hour ago."""
    return maker.agent(agent_id, valid_from=datetime.now(UTC) - 2 * HOUR, lifetime=HOUR)


def not_yet_valid(maker: CertificateMaker, agent_id: str) -> Issued:
    """An agent's certificate that becomes valid in an hour."""
    return maker.agent(agent_id, valid_from=datetime.now(UTC) + HOUR, lifetime=HOUR)


def request_pem(uris: Sequence[str] = (), key: ec.EllipticCurvePrivateKey | None = None) -> bytes:
    """A certificate signing request (PEM) that asks for these names."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    if uris:
        names = [x509.UniformResourceIdentifier(uri) for uri in uris]
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=True)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM)


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """The key in PEM (PKCS 8, not encrypted)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _host_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
