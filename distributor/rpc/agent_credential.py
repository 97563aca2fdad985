"""By what an attached agent is known, and how its stream ends with that."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Final

from distributor.dispatch.agent_registry import CloseReason
from distributor.dispatch.revocations import Lapse
from distributor.errors import PermissionDenied
from distributor.identity.caller import Caller
from distributor.identity.certificates import PeerIdentity, identity_of
from distributor.model.labels import AgentLabels
from distributor.model.revocation import Credential
from distributor.observability.logging import get_logger
from distributor.rpc.agent_stream import AgentStream

logger = get_logger()

CERTIFICATE: Final = "x509_pem_cert"
"""The name under which gRPC gives the certificate that a peer has presented, which it has verified."""


def peer_certificate(transport: Mapping[str, Iterable[bytes]]) -> bytes | None:
    """The certificate of a peer in PEM, as its transport knows it; None without."""
    return next(iter(transport.get(CERTIFICATE, ())), None)


def peer_identity(transport: Mapping[str, Iterable[bytes]], trust_domain: str) -> PeerIdentity | None:
    """The identity in that certificate. Raises Unauthenticated if it is not exactly one of this trust domain."""
    certificate = peer_certificate(transport)
    return None if certificate is None else identity_of(certificate, trust_domain)


def agent_credential(
    caller: Caller, transport: Callable[[], Mapping[str, Iterable[bytes]]], trust_domain: str
) -> Credential:
    """What a calling agent is known by: its token if it has sent one, or its certificate; neither if unknown."""
    if not caller.known:
        return Credential()
    if caller.token_ids:
        return caller.credential()
    identity = peer_identity(transport(), trust_domain)
    generation = identity.generation if identity is not None else None
    return caller.credential()._replace(generation=generation)


def check_agent_is_caller(agent_id: str, caller: Caller, peer: str) -> None:
    """Raise PermissionDenied if a Hello names another agent than the caller's credentials do."""
    if caller.known and agent_id != caller.subject:
        logger.warning("an agent claims another's id", agent_id=caller.subject, claimed=agent_id, peer=peer)
        raise PermissionDenied(
            f"hello.agent_id must be '{caller.subject}', as in the credentials, not '{agent_id}'",
            reason="AGENT_ID_MISMATCH",
            field="hello.agent_id",
        )


def log_overruled_labels(agent_id: str, labels: AgentLabels) -> None:
    """Warn of labels in a Hello that do not count. Names only: they are those of settings and credentials."""
    if labels.unproven:
        logger.warning("labels need proof by the agent's credential", agent_id=agent_id, labels=list(labels.unproven))
    if labels.overruled:
        logger.warning("labels differ from the agent's credential", agent_id=agent_id, labels=list(labels.overruled))


class StreamEnd:
    """Ends the stream of an agent whose credentials lapse, also if that happens before the stream is open."""

    def __init__(self) -> None:
        self._lapse: Lapse | None = None
        self._stream: AgentStream | None = None

    def __call__(self, lapse: Lapse) -> None:
        """End the stream, now or once it is open."""
        self._lapse = lapse
        if self._stream is not None:
            self._stream.end(CloseReason(lapse.value))

    def opened(self, stream: AgentStream) -> None:
        """The stream is open."""
        self._stream = stream
        if self._lapse is not None:
            self(self._lapse)
