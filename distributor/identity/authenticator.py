"""Finds out who calls: by a client certificate, a token, or both a service's credential and its user's token."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from distributor.errors import PermissionDenied, Unauthenticated
from distributor.identity.caller import Basis, Caller, CallerKind
from distributor.identity.certificates import PeerIdentity, PeerKind, current_identity
from distributor.identity.credential_attempts import UNLIMITED, CredentialAttempts
from distributor.identity.grant_claims import NOTHING
from distributor.identity.roles import Role
from distributor.identity.service_access import NO_ACCESS, ServiceAccess
from distributor.identity.tokens import NOTHING_REVOKED, Revoked, Token, TokenVerifier, refused
from distributor.wire.client_address import CLIENT_ADDRESS, ip_address_text

AUTHORIZATION: Final = "authorization"
ON_BEHALF_OF: Final = "distributor-on-behalf-of"
"""Metadata with the token of the user that a delegate calls for."""
REVOKED: Final = "revoked"
"""In the metadata of an error, names the agent or service whose certificate is revoked."""
_CERTIFICATE: Final = "x509_pem_cert"
"""The property of gRPC's transport with the certificate of a peer, in PEM."""

Metadata: TypeAlias = Iterable[tuple[str, str | bytes]]
Transport: TypeAlias = Callable[[], Mapping[str, Iterable[bytes]]]
"""Returns what the transport has verified of a peer. Asked only for certificates: gRPC copies all of it."""


CertificateReader: TypeAlias = Callable[[Transport], PeerIdentity | None]
"""Returns the identity in the certificate that the transport has verified; None without one. Raises Unauthenticated."""
ServiceDirectory: TypeAlias = Callable[[str], ServiceAccess | None]


def certificate_reader(trust_domain: str) -> CertificateReader:
    """Reads the identities of this trust domain."""

    def read(transport: Transport) -> PeerIdentity | None:
        certificates = list(transport().get(_CERTIFICATE, ()))
        return current_identity(certificates[0], trust_domain, time.time()) if certificates else None

    return read


def no_certificates(_: Transport) -> None:
    """A server that accepts no client certificates."""
    return


def no_services(_: str) -> ServiceAccess | None:
    """A server without a policy file."""
    return None


class Authenticator:
    """Tells who calls. Holds no state of its own, so keys and services may change at any time."""

    def __init__(
        self,
        verifier: TokenVerifier | None,
        certificates: CertificateReader = no_certificates,
        services: ServiceDirectory = no_services,
        revoked: Revoked = NOTHING_REVOKED,
        attempts: CredentialAttempts = UNLIMITED,
    ) -> None:
        """Without a verifier, no token counts. `services` returns what a service with a certificate may do.

        `revoked` is for certificates; the verifier checks tokens itself. `attempts` limits failed tokens per address.
        """
        self._attempts = attempts
        self._verifier = verifier
        self._certificates = certificates
        self._services = services
        self._revoked = revoked

    async def caller(self, metadata: Metadata, transport: Transport, address: str) -> Caller | None:
        """Return who calls from `address`; None without credentials.

        A call on behalf of a user has that user's roles and grants, and none of the delegate's. Its address is the one
        that the delegate forwards, if it does.

        Raises Unauthenticated for credentials that do not count, PermissionDenied if the caller is no delegate,
        ResourceExhausted after too many credentials from `address` that did not count, and Unavailable while the key of
        a token is being fetched.
        """
        token, on_behalf_of, client_address = _credentials(metadata)
        identity = self._certificates(transport)
        if identity is not None and token:
            raise Unauthenticated(
                "a client certificate and a token are two identities; send one", reason="TWO_IDENTITIES"
            )
        if identity is not None:
            caller = self._by_certificate(identity, address)
        elif token:
            caller = caller_of(self._verified(token, address), address)
        elif on_behalf_of:
            raise Unauthenticated(
                f"{ON_BEHALF_OF} needs a credential of the caller's own", reason="CREDENTIALS_REQUIRED"
            )
        else:
            return None
        if not on_behalf_of:
            return caller
        delegated = self._delegated(caller, on_behalf_of)
        return replace(delegated, address=client_address, via=caller.address) if client_address else delegated

    def _verified(self, token: str, source: str) -> Token:
        if self._verifier is None:
            raise refused("tokens are not accepted here, as no key is set to verify them")
        return self._attempts.verify(self._verifier, token, source)

    def _by_certificate(self, identity: PeerIdentity, address: str) -> Caller:
        name, expires = identity.peer.name, identity.expires
        if identity.peer.kind is PeerKind.AGENT:
            if self._revoked.certificate(name, identity.generation):
                # The same as for a stream that ends for it: agents know this reason.
                raise _revoked(identity, "the credentials have been revoked", "CREDENTIALS_REVOKED")
            labels = identity.labels
            return Caller(CallerKind.AGENT, name, grants=NOTHING, address=address, expires=expires, labels=labels)
        access = self._services(name) or NO_ACCESS
        basis = Basis(identity.starts, access=access)
        if self._revoked.service(name, identity.starts):
            raise _revoked(identity, "the certificate is revoked", "CERTIFICATE_REVOKED")
        return Caller(
            CallerKind.SERVICE, name, access.roles, access.grants, address=address, expires=expires, basis=basis
        )

    def _delegated(self, delegate: Caller, token: str) -> Caller:
        if Role.DELEGATE not in delegate.roles:
            raise PermissionDenied(
                f"a call on behalf of others needs the role {Role.DELEGATE}, and {delegate} does not have it",
                reason="NOT_A_DELEGATE",
            )
        # The delegate answers for what it forwards, not the others at its address.
        user = caller_of(self._verified(token, delegate.principal), delegate.address)
        if user.kind is not CallerKind.USER:
            raise Unauthenticated(f"the token in {ON_BEHALF_OF} is not that of a user", reason="NOT_A_USER")
        expiries = [expires for expires in (delegate.expires, user.expires) if expires is not None]
        return replace(
            delegate,
            roles=user.roles - {Role.DELEGATE},
            grants=user.grants,
            on_behalf_of=user.subject,
            token_ids=(*delegate.token_ids, *user.token_ids),
            expires=min(expiries, default=None),
            basis=delegate.basis._replace(keys=(*delegate.basis.keys, *user.basis.keys)),
        )


def _revoked(identity: PeerIdentity, message: str, reason: str) -> Unauthenticated:
    """The error for a revoked certificate. Its metadata says whose, for the audit trail."""
    return Unauthenticated(message, reason=reason, metadata={REVOKED: f"{identity.peer.kind}:{identity.peer.name}"})


def caller_of(token: Token, address: str) -> Caller:
    """The caller with this token."""
    return Caller(
        token.kind,
        token.subject,
        token.roles,
        token.grants,
        address=address,
        token_ids=(token.token_id,),
        expires=token.expires,
        basis=Basis(token.issued, (token.key,)),
        labels=token.labels,
    )


def bearer_token(value: str) -> str:
    """The token in the value of an `authorization` header. Raises Unauthenticated for another scheme."""
    scheme, _, token = value.partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise refused("authorization must be Bearer and a token")
    return token.strip()


class _Credentials(NamedTuple):
    """The caller's token, that of the user it calls for, and where that user is; each empty if absent."""

    token: str
    on_behalf_of: str
    client_address: str


def _credentials(metadata: Metadata) -> _Credentials:
    found = {AUTHORIZATION: "", ON_BEHALF_OF: "", CLIENT_ADDRESS: ""}
    for name, value in metadata:
        if name not in found:
            continue
        if found[name]:
            raise refused(f"{name} is sent twice")
        if not isinstance(value, str) or not value:
            raise refused(f"{name} must be text")
        found[name] = value
    token = bearer_token(found[AUTHORIZATION]) if found[AUTHORIZATION] else ""
    return _Credentials(token, found[ON_BEHALF_OF], _address(found[CLIENT_ADDRESS], found[ON_BEHALF_OF]))


def _address(text: str, on_behalf_of: str) -> str:
    """The canonical form of a forwarded address. Raises Unauthenticated for what is none, or is not forwarded."""
    if not text:
        return ""
    if not on_behalf_of:
        raise refused(f"{CLIENT_ADDRESS} is only for calls with {ON_BEHALF_OF}")
    address = ip_address_text(text)
    if not address:
        raise refused(f"{CLIENT_ADDRESS} must be an IP address")
    return address
