"""Administers credentials: makes enrolment tokens, and revokes what agents, services and users have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from distributor.dispatch.enrolment import Enrolments
from distributor.dispatch.ports import EnrolmentStore, RevocationStore
from distributor.dispatch.revocations import Revocations
from distributor.errors import InvalidArgument
from distributor.identity.caller import Caller
from distributor.identity.enrolment_tokens import token_text
from distributor.identity.tokens import MAX_SUBJECT_CHARACTERS
from distributor.model.command import InvalidField, check_agent_id
from distributor.model.enrolment import (
    MAX_TOKEN_LIFETIME_MS,
    MAX_TOKEN_USES,
    NewEnrolmentToken,
    check_agents,
    is_pattern,
)
from distributor.model.labels import credential_labels
from distributor.model.revocation import Revocation, RevokedKind
from distributor.observability.logging import get_logger

logger = get_logger()

MAX_REASON_CHARACTERS: Final = 1_024
MAX_TOKEN_ID_CHARACTERS: Final = 256


class PrintedToken(NamedTuple):
    """A token as an operator passes it on, its id, and when it expires, in milliseconds since the epoch."""

    text: str
    token_id: str
    expires_ms: int


class Credentials:
    """The use cases of CredentialService. Callers have been found to be administrators."""

    def __init__(
        self,
        tokens: EnrolmentStore,
        revoked: RevocationStore,
        revocations: Revocations,
        enrolments: Enrolments,
    ) -> None:
        self._tokens = tokens
        self._revoked = revoked
        self._revocations = revocations
        self._enrolments = enrolments

    async def create_enrolment_token(
        self, agents: str, labels: Mapping[str, str], count: int, lifetime_ms: int, caller: Caller
    ) -> PrintedToken:
        """Make a token. Raises InvalidArgument, and FailedPrecondition if this server issues no certificates."""
        issuer = self._enrolments.issuer
        _check(agents, labels, count, lifetime_ms)
        secret = issuer.new_token(agents, labels)
        token = NewEnrolmentToken(secret.token_id, secret.digest, agents, labels, count, lifetime_ms)
        expires_ms = await self._tokens.create(token)
        logger.info("enrolment token made", token_id=secret.token_id, agents=agents, count=count, by=caller.principal)
        return PrintedToken(token_text(secret, issuer.server_ca_der), secret.token_id, expires_ms)

    async def revoke_agent(self, agent_id: str, reason: str, caller: Caller) -> Revocation:
        """Revoke all that an agent has. Raises InvalidArgument."""
        _check_agent_id(agent_id)
        return await self._revoke(RevokedKind.AGENT, agent_id, reason, caller)

    async def revoke_token(self, token_id: str, reason: str, caller: Caller) -> Revocation:
        """Revoke a token by its id. Raises InvalidArgument."""
        if not 1 <= len(token_id) <= MAX_TOKEN_ID_CHARACTERS:
            raise _invalid("token_id", f"token_id must have 1 to {MAX_TOKEN_ID_CHARACTERS} characters")
        return await self._revoke(RevokedKind.TOKEN, token_id, reason, caller)

    async def restore_agent(self, agent_id: str, caller: Caller) -> None:
        """Let an agent's certificates count again. Raises NotFound, FailedPrecondition, InvalidArgument."""
        _check_agent_id(agent_id)
        await self._revoked.restore_agent(agent_id)
        logger.info("agent restored", agent_id=agent_id, by=caller.principal)
        await self._revocations.load()

    async def revoke_service(self, name: str, reason: str, caller: Caller) -> Revocation:
        """Revoke the certificates and tokens that a service has. Raises InvalidArgument."""
        _check_service(name)
        return await self._revoke(RevokedKind.SERVICE, name, reason, caller)

    async def restore_service(self, name: str, caller: Caller) -> None:
        """Let what a service had before its revocation count again. Raises NotFound, InvalidArgument."""
        _check_service(name)
        await self._revoked.restore_service(name)
        logger.info("service restored", service=name, by=caller.principal)
        await self._revocations.load()

    async def revocations(self) -> list[Revocation]:
        """All entries, newest first."""
        await self._revocations.load()
        return sorted(self._revocations.list, key=lambda entry: -entry.revoked_ms)

    async def _revoke(self, kind: RevokedKind, subject: str, reason: str, caller: Caller) -> Revocation:
        if len(reason) > MAX_REASON_CHARACTERS:
            raise _invalid("reason", f"reason must have at most {MAX_REASON_CHARACTERS:,} characters")
        entry = await self._revoked.revoke(kind, subject, caller.principal, reason)
        logger.warning("credentials revoked", kind=kind.value, subject=subject, by=caller.principal)
        # Other replicas notice within seconds, this one at once.
        await self._revocations.load()
        return entry


def _check(agents: str, labels: Mapping[str, str], count: int, lifetime_ms: int) -> None:
    try:
        check_agents(agents)
        credential_labels(labels)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error
    if not 1 <= count <= MAX_TOKEN_USES:
        raise _invalid("count", f"count must be 1 to {MAX_TOKEN_USES:,}, not {count:,}")
    if count > 1 and not is_pattern(agents):
        raise _invalid("count", f"count must be 1 for a token of one agent, not {count:,}")
    if not 1_000 <= lifetime_ms <= MAX_TOKEN_LIFETIME_MS:
        raise _invalid("expires_in", f"expires_in must be 1 s to 30 days, not {lifetime_ms / 1000:g} s")


def _check_agent_id(agent_id: str) -> None:
    try:
        check_agent_id(agent_id)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def _check_service(name: str) -> None:
    # A service with a token may have any subject.
    if not 1 <= len(name) <= MAX_SUBJECT_CHARACTERS or not name.isprintable():
        raise _invalid("service", f"service must have 1 to {MAX_SUBJECT_CHARACTERS} printable characters")


def _invalid(field: str, message: str) -> InvalidArgument:
    return InvalidArgument(message, field=field, reason="INVALID_CREDENTIAL_REQUEST")
