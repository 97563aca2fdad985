"""Reads the identity of a peer from its certificate: the certificate's one URI, a SPIFFE id of this trust domain."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Final, NamedTuple

from cryptography import x509

from distributor.errors import Unauthenticated
from distributor.identity.certificate_generation import generation_in
from distributor.identity.certificate_labels import labels_in
from distributor.identity.unreadable import UNREADABLE
from distributor.model.command import AGENT_ID_PATTERN
from distributor.model.labels import NO_LABELS

TRUST_DOMAIN_PATTERN: Final = re.compile(r"[a-z0-9._-]{1,255}")
"""https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md, section 2.1."""
SERVICE_NAME_PATTERN: Final = AGENT_ID_PATTERN

BACKDATED: Final = timedelta(minutes=5)
"""Our certificates begin this long before they are issued, for peers whose clocks are slow."""
MAX_CERTIFICATE_BYTES: Final = 65_536
_CACHED: Final = 4_096
_CERTIFICATES: Final = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\s*", re.DOTALL)
_SCHEME: Final = "spiffe://"


class PeerKind(StrEnum):
    """What a certificate is for. The values are the first part of the path of a SPIFFE id."""

    AGENT = "agent"
    SERVICE = "service"


class PeerName(NamedTuple):
    """Whom a certificate names: an agent by its id, or a service by its name."""

    kind: PeerKind
    name: str

    def uri(self, trust_domain: str) -> str:
        """The SPIFFE id, such as `spiffe://distributor/agent/press-7`."""
        return f"{_SCHEME}{trust_domain}/{self.kind}/{self.name}"


class Holder(NamedTuple):
    """Whom a certificate is for.

    `generation` counts the enrolments of an agent; 0 if another CA issued the certificate. `labels` are those that the
    certificate proves.
    """

    peer: PeerName
    generation: int = 0
    labels: Mapping[str, str] = NO_LABELS


class PeerIdentity(NamedTuple):
    """What a certificate says. `starts` and `expires` are in seconds since the epoch."""

    holder: Holder
    starts: float
    expires: float

    @property
    def peer(self) -> PeerName:
        """Whom it names."""
        return self.holder.peer

    @property
    def generation(self) -> int:
        """The enrolment of an agent; 0 if another CA issued the certificate."""
        return self.holder.generation

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels that it proves."""
        return self.holder.labels


def identity_of(certificate_pem: bytes, trust_domain: str) -> PeerIdentity:
    """Return the identity in a certificate whose chain the transport has verified; it may have expired since.

    Raises Unauthenticated with the reason CERTIFICATE_REFUSED if it is not exactly one SPIFFE id of this trust domain.
    """
    return _identity(certificate_pem, trust_domain)


def current_identity(certificate_pem: bytes, trust_domain: str, now: float) -> PeerIdentity:
    """The same for a call at `now`: a connection may outlive its certificate. Raises Unauthenticated."""
    identity = _identity(certificate_pem, trust_domain)
    if now >= identity.expires:
        raise Unauthenticated("the certificate has expired", reason="CERTIFICATE_EXPIRED")
    return identity


def validity_of(certificate_pem: bytes) -> tuple[float, float]:
    """When one of our certificates was issued and when it expires, in seconds since the epoch. Raises ValueError."""
    certificate = x509.load_pem_x509_certificate(certificate_pem)
    issued = certificate.not_valid_before_utc + BACKDATED
    return issued.timestamp(), certificate.not_valid_after_utc.timestamp()


def certificate_part(credential_pem: bytes) -> bytes:
    """The certificates of a PEM file that has a private key, too."""
    return b"".join(_CERTIFICATES.findall(credential_pem))


def parsed_name(uri: str, trust_domain: str) -> PeerName:
    """Parse a SPIFFE id. Raises Unauthenticated."""
    if not uri.startswith(_SCHEME):
        raise refused("its URI is not a SPIFFE id")
    domain, _, path = uri.removeprefix(_SCHEME).partition("/")
    if domain != trust_domain:
        raise refused(f"its trust domain is not {trust_domain}")
    kind, _, name = path.partition("/")
    if kind not in list(PeerKind) or not AGENT_ID_PATTERN.fullmatch(name):
        raise refused("its URI names neither an agent nor a service")
    return PeerName(PeerKind(kind), name)


def refused(why: str) -> Unauthenticated:
    """The error for a certificate that identifies nobody."""
    return Unauthenticated(f"the client certificate is refused: {why}", reason="CERTIFICATE_REFUSED")


@lru_cache(_CACHED)
def _identity(certificate_pem: bytes, trust_domain: str) -> PeerIdentity:
    # Each call of a connection has the same certificate.
    return identity_in(parsed_certificate(certificate_pem), trust_domain)


def parsed_certificate(certificate_pem: bytes) -> x509.Certificate:
    """Parse a certificate of anyone. Raises Unauthenticated."""
    if len(certificate_pem) > MAX_CERTIFICATE_BYTES:
        raise refused(f"it has over {MAX_CERTIFICATE_BYTES:,} bytes")
    try:
        return x509.load_pem_x509_certificate(certificate_pem)
    except UNREADABLE as error:
        raise refused("it cannot be read") from error


def identity_in(certificate: x509.Certificate, trust_domain: str) -> PeerIdentity:
    """The same for a parsed certificate, which may be malformed inside. Raises Unauthenticated."""
    try:
        return _read_identity(certificate, trust_domain)
    except UNREADABLE as error:
        raise refused("it cannot be read") from error


def _read_identity(certificate: x509.Certificate, trust_domain: str) -> PeerIdentity:
    extensions = certificate.extensions
    try:
        names = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        raise refused("it has no subject alternative name") from None
    if len(names) != 1:
        raise refused(f"it has {len(names)} subject alternative names instead of one URI")
    (name,) = names
    if not isinstance(name, x509.UniformResourceIdentifier):
        raise refused("its subject alternative name is not a URI")
    return PeerIdentity(
        _holder(parsed_name(name.value, trust_domain), extensions),
        certificate.not_valid_before_utc.timestamp(),
        certificate.not_valid_after_utc.timestamp(),
    )


def _holder(peer: PeerName, extensions: x509.Extensions) -> Holder:
    try:
        return Holder(peer, generation_in(extensions), labels_in(extensions))
    except ValueError as error:
        raise refused(str(error)) from error
