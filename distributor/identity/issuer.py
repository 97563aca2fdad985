"""Issues agents' certificates, and decides whether an expired one may be renewed. No I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from distributor.errors import Aborted, FailedPrecondition, Unauthenticated
from distributor.identity.authority import Authority
from distributor.identity.certificates import (
    Holder,
    PeerIdentity,
    PeerKind,
    identity_in,
    parsed_certificate,
    refused,
)
from distributor.identity.enrolment_tokens import TokenSecret
from distributor.identity.renewal_proof import is_fresh, is_proved, new_challenge
from distributor.identity.signing_requests import requested_key


class AgentCertificate(NamedTuple):
    """A certificate in PEM; times in seconds since the epoch."""

    pem: bytes
    issued: float
    expires: float


class Issuer:
    """Issues with one authority, in one trust domain. `lifetime` and `grace` in seconds.

    `server_ca` is in PEM: certificates by which agents recognise servers; empty if hosts trust the servers' CA anyway.
    """

    def __init__(
        self, authority: Authority, trust_domain: str, lifetime: float, grace: float, server_ca: bytes = b""
    ) -> None:
        self._authority = authority
        self.trust_domain = trust_domain
        self._lifetime = timedelta(seconds=lifetime)
        self._grace = grace
        self.server_ca = server_ca

    @property
    def server_ca_der(self) -> bytes:
        """The same in DER, for a token; empty if hosts trust the servers' CA anyway."""
        if not self.server_ca:
            return b""
        return x509.load_pem_x509_certificate(self.server_ca).public_bytes(Encoding.DER)

    def issue(self, holder: Holder, request_pem: bytes, now: float) -> AgentCertificate:
        """Issue a certificate for the key of a request. Raises InvalidArgument, and FailedPrecondition."""
        key = requested_key(request_pem)
        at = datetime.fromtimestamp(now, UTC)
        issued = self._authority.issue_peer(holder, self.trust_domain, key, at, self._lifetime)
        return AgentCertificate(issued.pem, now, issued.expires)

    def new_token(self, agents: str, labels: Mapping[str, str]) -> TokenSecret:
        """Make an enrolment token, which any replica with this CA accepts."""
        return TokenSecret.new(self._authority.secret, agents, labels)

    def has_made(self, token: TokenSecret, agents: str, labels: Mapping[str, str]) -> bool:
        """Whether this CA has made an enrolment token for these agents and labels."""
        return token.is_for(self._authority.secret, agents, labels)

    def challenge(self, certificate_pem: bytes, now: float) -> bytes:
        """A challenge for `expired_holder`, which any replica with this CA accepts.

        Raises Unauthenticated for a certificate of another CA.
        """
        self._own(certificate_pem)
        return new_challenge(self._authority.secret, now)

    def expired_holder(
        self, certificate_pem: bytes, challenge: bytes, signed: Callable[[ec.EllipticCurvePublicKey], bool], now: float
    ) -> PeerIdentity:
        """Return whom an expired certificate is for if its holder may renew it; `signed` checks the proof with its key.

        Raises Aborted for a challenge that is not fresh, Unauthenticated for a certificate or proof that does not
        count, and FailedPrecondition after the grace. It does not know what is revoked.
        """
        if not is_fresh(challenge, self._authority.secret, now):
            raise Aborted("the challenge is not fresh; ask for another one", reason="CHALLENGE_EXPIRED")
        certificate = self._own(certificate_pem)
        identity = identity_in(certificate, self.trust_domain)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not signed(key):
            raise Unauthenticated("the proof is not signed with the key of the certificate", reason="PROOF_REFUSED")
        if identity.peer.kind is not PeerKind.AGENT:
            raise refused("it is not an agent's")
        if now > identity.expires + self._grace:
            raise FailedPrecondition(
                f"the certificate expired {_days(now - identity.expires)} ago, and may be renewed for "
                f"{_days(self._grace)} (renewal_grace); enrol the agent again with a new token",
                reason="RENEWAL_TOO_LATE",
            )
        return identity

    def _own(self, certificate_pem: bytes) -> x509.Certificate:
        certificate = parsed_certificate(certificate_pem)
        if not self._authority.has_issued(certificate):
            raise refused("this server's CA has not issued it")
        return certificate


def proof_of(signature: bytes, challenge: bytes, request_pem: bytes) -> Callable[[ec.EllipticCurvePublicKey], bool]:
    """Return a check of a signature over a challenge and a request, which takes the key."""
    return lambda key: is_proved(key, signature, challenge, request_pem)


def _days(seconds: float) -> str:
    return f"{seconds / 86_400:.1f} days" if seconds >= 86_400 else f"{seconds / 3_600:.1f} h"
