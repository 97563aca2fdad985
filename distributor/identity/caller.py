"""The caller: who asks for something, and what they may do. Known at the door, carried to the record."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final, NamedTuple

from distributor.identity.grants import EVERYTHING, Grants
from distributor.identity.roles import NO_ROLES, Role, with_included
from distributor.identity.service_access import ServiceAccess
from distributor.model.labels import NO_LABELS
from distributor.model.requester import Requester
from distributor.model.revocation import Credential


class CallerKind(StrEnum):
    """What kind of caller it is. `unknown` is everyone while authentication is off."""

    AGENT = "agent"
    SERVICE = "service"
    USER = "user"
    UNKNOWN = "unknown"


class Basis(NamedTuple):
    """What the acceptance of a caller's credentials rests on, and may end before they expire.

    `issued` is when the caller's own credential began to count, in seconds since the epoch: the start of a
    certificate, or when a token was issued. `keys` are the fingerprints of the keys that signed its tokens. `access` is
    what the policy file gives a service with a certificate.
    """

    issued: float = 0.0
    keys: tuple[str, ...] = ()
    access: ServiceAccess | None = None


NO_BASIS: Final = Basis()


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller.

    `subject` is the name that its credential proves: an agent's id, a service's name, a user's `sub`. A service that
    asks on behalf of a user keeps its own kind and subject, has the user's roles and grants instead of its own, and
    names the user in `on_behalf_of`. `roles` has those included in others too. `address` is where the call came from,
    without port; if a service forwards the address of its user, that one, and `via` is the service's. `token_ids`
    name the tokens by which the caller is known, for revocation; empty for a certificate. `expires` is when its
    credentials do, in seconds since the epoch; None if they do not end with the connection. `labels` are those that
    the credential of an agent proves; empty for other callers.
    """

    kind: CallerKind
    subject: str
    roles: frozenset[Role] = NO_ROLES
    grants: Grants = EVERYTHING
    on_behalf_of: str = ""
    address: str = ""
    token_ids: tuple[str, ...] = ()
    expires: float | None = None
    via: str = ""
    basis: Basis = NO_BASIS
    labels: Mapping[str, str] = field(default_factory=lambda: NO_LABELS, hash=False)

    @property
    def known(self) -> bool:
        """Whether it has proved who it is."""
        return self.kind is not CallerKind.UNKNOWN

    @property
    def principal(self) -> str:
        """Who is responsible for what it does: the user it asks for, or itself. Unique over all kinds."""
        return f"user:{self.on_behalf_of}" if self.on_behalf_of else f"{self.kind}:{self.subject}"

    def requester(self) -> Requester | None:
        """Return who asks, for a record; None if not known."""
        return Requester(self.kind, self.subject, self.on_behalf_of, self.address) if self.known else None

    def credential(self) -> Credential:
        """Return by what it is known, to notice when that ends. Of an agent's certificate, it has no generation."""
        return Credential(
            self.subject if self.kind is CallerKind.AGENT else "",
            None,
            self.token_ids,
            self.expires,
            self.subject if self.kind is CallerKind.SERVICE else "",
            *self.basis,
        )

    def __str__(self) -> str:
        if not self.known:
            return "an unknown caller"
        return f"{self.subject} for {self.on_behalf_of}" if self.on_behalf_of else self.subject


ANYONE: Final = Caller(CallerKind.UNKNOWN, "", with_included([Role.ADMIN]))
"""Everyone while authentication is off."""
