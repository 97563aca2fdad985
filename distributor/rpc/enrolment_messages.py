"""Certificates on the wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from distributor.dispatch.enrolment import Enrolments
from distributor.errors import DistributorError
from distributor.identity.issuer import AgentCertificate
from distributor.model.revocation import Credential
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import enrolment_pb2 as pb

RenewCertificate: TypeAlias = Callable[[bytes], gateway.CertificateReply]
"""Answers a certificate request, given in PEM."""

CERTIFICATE_INTERVAL_MS: Final = 10_000
"""An agent that asks for certificates more often on one stream gets none: each costs a signature."""


def certificate_message(certificate: AgentCertificate, server_ca: bytes) -> pb.Certificate:
    """Convert a certificate; `server_ca` is in PEM."""
    message = pb.Certificate(chain=certificate.pem, server_ca=server_ca)
    message.issue_time.FromMilliseconds(round(certificate.issued * 1000))
    message.expire_time.FromMilliseconds(round(certificate.expires * 1000))
    return message


def certificate_renewal(
    enrolments: Enrolments, credential: Credential, labels: Mapping[str, str], peer: str
) -> RenewCertificate:
    """Renews the certificate of an agent attached from the address `peer`. Answers errors, too: the stream goes on.

    `labels` are those that the present certificate proves.
    """

    def renew(request_pem: bytes) -> gateway.CertificateReply:
        try:
            certificate = enrolments.renew_attached(credential, labels, request_pem, peer)
            return gateway.CertificateReply(certificate=certificate_message(certificate, enrolments.issuer.server_ca))
        except DistributorError as error:
            return _refused(error.reason.lower(), str(error))

    return renew


def no_certificate(_: bytes) -> gateway.CertificateReply:
    """Where nothing issues certificates."""
    return _refused("no_authority", "this server issues no certificates")


def asked_too_soon() -> gateway.CertificateReply:
    """For an agent that asks again at once."""
    return _refused("asked_too_soon", f"ask at most once in {CERTIFICATE_INTERVAL_MS // 1000} s")


def _refused(code: str, message: str) -> gateway.CertificateReply:
    reply = gateway.CertificateReply()
    reply.reason.code, reply.reason.message = code, message
    return reply
