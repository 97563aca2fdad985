"""Gives agents certificates: the first for a token, later ones for the present or the expired one."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import NamedTuple

from distributor.dispatch.audit_recorder import NO_AUDIT, Audit
from distributor.dispatch.ports import EnrolmentStore
from distributor.dispatch.revocations import Lapse, Revocations
from distributor.errors import FailedPrecondition, InvalidArgument, PermissionDenied
from distributor.identity.certificates import Holder, PeerKind, PeerName
from distributor.identity.enrolment_tokens import TokenSecret
from distributor.identity.issuer import AgentCertificate, Issuer, proof_of
from distributor.identity.signing_requests import requested_key
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent, Detail
from distributor.model.command import InvalidField, check_agent_id
from distributor.model.enrolment import Enrolment
from distributor.model.revocation import Credential
from distributor.observability.logging import get_logger

logger = get_logger()


class EnrolmentRequest(NamedTuple):
    """What an agent asks for. `token` is the id and the secret, with a dot between; the request is in PEM."""

    token: str
    agent_id: str
    request_pem: bytes
    replace: bool


class RenewalRequest(NamedTuple):
    """What an agent with an expired certificate asks for; certificate and request in PEM."""

    certificate_pem: bytes
    request_pem: bytes
    challenge: bytes
    signature: bytes


class Enrolled(NamedTuple):
    """What an enrolled agent gets."""

    certificate: AgentCertificate
    labels: Mapping[str, str]


class Enrolments:
    """The use cases of EnrolmentService, and renewals on agents' streams. `issuer` is None without a CA's key."""

    def __init__(self, store: EnrolmentStore, revocations: Revocations, issuer: Issuer | None) -> None:
        self._store = store
        self._revocations = revocations
        self._issuer = issuer
        self.audit: Audit = NO_AUDIT
        """Records renewals."""

    @property
    def issuer(self) -> Issuer:
        """What issues certificates here. Raises FailedPrecondition if nothing does."""
        if self._issuer is None:
            raise FailedPrecondition(
                "this server issues no certificates: it has no key of a CA (ca_key); get them from the CA that the "
                "operator of the server uses",
                reason="NO_AUTHORITY",
            )
        return self._issuer

    async def enrol(self, request: EnrolmentRequest, peer: str = "") -> Enrolled:
        """Enrol an agent. Raises PermissionDenied for the token, AlreadyExists if another agent has the id."""
        issuer = self.issuer
        secret = _secret(request.token)
        # First: without a token, nothing else of the request is worth a look.
        token = await self._store.token(secret.token_id, secret.digest)
        if not issuer.has_made(secret, token.agents, token.labels):
            logger.error("an enrolment token in Valkey is not of this CA", token_id=secret.token_id, peer=peer)
            raise PermissionDenied(
                "the enrolment token was not made with the ca_key of this server; make a new one",
                reason="ENROLMENT_TOKEN_REFUSED",
                field="token",
            )
        try:
            check_agent_id(request.agent_id)
        except InvalidField as error:
            raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error
        if not token.admits(request.agent_id):
            logger.warning("an enrolment token was used for another agent", agent_id=request.agent_id, peer=peer)
            raise PermissionDenied(
                f"the enrolment token does not admit agent '{request.agent_id}'",
                reason="ENROLMENT_TOKEN_REFUSED",
                field="agent_id",
            )
        # Refuse what cannot be signed before the token is used.
        requested_key(request.request_pem)
        generation = await self._store.enrol(
            Enrolment(request.agent_id, secret.token_id, secret.digest, token.is_for_group, request.replace)
        )
        holder = Holder(PeerName(PeerKind.AGENT, request.agent_id), generation, token.labels)
        certificate = issuer.issue(holder, request.request_pem, time.time())
        logger.info(
            "agent enrolled", agent_id=request.agent_id, generation=generation, token_id=secret.token_id, peer=peer
        )
        return Enrolled(certificate, token.labels)

    def challenge(self, certificate_pem: bytes) -> bytes:
        """A challenge for `renew`. Raises FailedPrecondition, and Unauthenticated for a certificate of another CA."""
        return self.issuer.challenge(certificate_pem, time.time())

    def renew(self, request: RenewalRequest, peer: str = "") -> AgentCertificate:
        """Renew an expired certificate. Raises Aborted, Unauthenticated or FailedPrecondition; see `Issuer`."""
        issuer, now = self.issuer, time.time()
        signed = proof_of(request.signature, request.challenge, request.request_pem)
        identity = issuer.expired_holder(request.certificate_pem, request.challenge, signed, now)
        agent_id = identity.peer.name
        if self._revocations.list.is_certificate_revoked(agent_id, identity.generation):
            raise Lapse.REVOKED.error()
        certificate = issuer.issue(identity.holder, request.request_pem, now)
        logger.info("expired certificate renewed", agent_id=agent_id, generation=identity.generation, peer=peer)
        self._note_renewal(agent_id, identity.generation, peer, "expired")
        return certificate

    def renew_attached(
        self, credential: Credential, labels: Mapping[str, str], request_pem: bytes, peer: str = ""
    ) -> AgentCertificate:
        """Renew the certificate, which proves these `labels`, with which an agent is connected from the address `peer`.

        Raises FailedPrecondition if it has none or this server issues none, Unauthenticated if it is revoked, and
        InvalidArgument for the request.
        """
        if credential.generation is None:
            raise FailedPrecondition(
                "a certificate is renewed on a connection with the present one", reason="NO_CERTIFICATE"
            )
        self._revocations.check(credential)
        holder = Holder(PeerName(PeerKind.AGENT, credential.agent_id), credential.generation, labels)
        certificate = self.issuer.issue(holder, request_pem, time.time())
        logger.info("certificate renewed", agent_id=credential.agent_id, generation=credential.generation)
        self._note_renewal(credential.agent_id, credential.generation, peer, "valid")
        return certificate

    def _note_renewal(self, agent_id: str, generation: int, peer: str, present: str) -> None:
        actor = AuditActor("agent", agent_id, address=peer)
        details: dict[str, Detail] = {"generation": generation, "present": present}
        self.audit.note(AuditEntry(AuditEvent.AGENT_RENEWED, actor, agent_id=agent_id, details=details))


def _secret(text: str) -> TokenSecret:
    token_id, dot, secret = text.partition(".")
    if not dot or len(text) > 256:
        raise InvalidArgument(
            "token must be an id and a secret with a dot between them", field="token", reason="INVALID_ENROLMENT_TOKEN"
        )
    return TokenSecret(token_id, secret)
