"""Revocations: which agents, services and tokens no longer count, and which of their credentials."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Final, NamedTuple


class RevokedKind(StrEnum):
    """What a revocation is of."""

    AGENT = "agent"
    TOKEN = "token"
    """A JWT, by its id (`jti`), or an enrolment token."""
    SERVICE = "service"


class Revocation(NamedTuple):
    """One entry of the list.

    `generation`: of an agent, the newest enrolment that no longer counts; its certificates up to it are refused, and
    later ones accepted. Of a service, what was issued up to `revoked_ms` is refused. `revoked_ms` is in milliseconds
    since the epoch by Valkey's clock; `revoked_by` names the caller, empty if a newer enrolment of the agent replaced
    this one.
    """

    kind: RevokedKind
    subject: str
    revoked_ms: int
    generation: int = 0
    revoked_by: str = ""
    reason: str = ""


class Credential(NamedTuple):
    """By what a caller is known, as far as that can be revoked or expire.

    `agent_id` is empty unless it is an agent; `generation` is that of an agent's certificate, None for a token.
    `service` is empty unless it is a service, or a user for whom a service calls; `issued` is when the service's own
    credential began to count. `expires` is in seconds since the epoch, like `issued`; None if the credential does not
    end by itself. `keys` are fingerprints of the keys that signed its tokens. `access` is what the policy file gave a
    service with a certificate when it was accepted.
    """

    agent_id: str = ""
    generation: int | None = None
    token_ids: Sequence[str] = ()
    expires: float | None = None
    service: str = ""
    issued: float = 0.0
    keys: Sequence[str] = ()
    access: object = None


class RevocationList:
    """The whole list, at one version. Immutable."""

    def __init__(self, version: int, entries: Iterable[Revocation]) -> None:
        self.version = version
        self._entries = {(entry.kind, entry.subject): entry for entry in entries}

    def __len__(self) -> int:
        return len(self._entries)

    def __iter__(self) -> Iterator[Revocation]:
        return iter(self._entries.values())

    def is_token_revoked(self, token_id: str) -> bool:
        """Whether the token with this id is revoked."""
        return (RevokedKind.TOKEN, token_id) in self._entries

    def agent(self, agent_id: str) -> Revocation | None:
        """The revocation of an agent, if there is one."""
        return self._entries.get((RevokedKind.AGENT, agent_id))

    def is_certificate_revoked(self, agent_id: str, generation: int) -> bool:
        """Whether a certificate of this enrolment of an agent is revoked; `generation` 0 is that of another CA."""
        entry = self.agent(agent_id)
        return entry is not None and generation <= entry.generation

    def is_agent_token_revoked(self, agent_id: str, issued: float) -> bool:
        """Whether an agent's token, issued so many seconds after the epoch, is older than the agent's revocation."""
        entry = self.agent(agent_id)
        return entry is not None and issued * 1000 <= entry.revoked_ms

    def is_service_revoked(self, name: str, issued: float) -> bool:
        """Whether what a service was issued, so many seconds after the epoch, is older than the service's revocation.

        A certificate counts as issued when its validity begins.
        """
        entry = self._entries.get((RevokedKind.SERVICE, name))
        return entry is not None and issued * 1000 <= entry.revoked_ms

    def refuses(self, credential: Credential) -> bool:
        """Whether a credential is revoked. Of an agent's token, this list cannot tell whether it is newer."""
        if any(map(self.is_token_revoked, credential.token_ids)):
            return True
        if credential.service and self.is_service_revoked(credential.service, credential.issued):
            return True
        generation = credential.generation
        return generation is not None and self.is_certificate_revoked(credential.agent_id, generation)


NOTHING_REVOKED: Final = RevocationList(0, ())
