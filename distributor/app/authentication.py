"""Decides by the settings whether a server authenticates its callers, and how."""

from __future__ import annotations

from distributor.app.token_keys import TokenKeys
from distributor.dispatch.revocations import Lapse
from distributor.identity.authenticator import Authenticator, ServiceDirectory, certificate_reader, no_certificates
from distributor.identity.credential_attempts import CredentialAttempts
from distributor.identity.metrics_door import DoorRecord, MetricsDoor
from distributor.identity.service_access import NO_ACCESS
from distributor.identity.tokens import Revoked
from distributor.model.revocation import Credential
from distributor.settings import ServerSettings


class Authentication:
    """How a server knows its callers. `keys` is None without keys for tokens."""

    def __init__(self, settings: ServerSettings, revoked: Revoked, services: ServiceDirectory) -> None:
        """`services` returns what a service with a certificate may do. Raises ConfigurationError for unusable keys."""
        self._services = services
        self._revoked = revoked
        self.attempts = CredentialAttempts(settings.failed_credentials_rate, settings.failed_credentials_burst)
        """Limits failed credentials per address."""
        self._required = _required_for_metrics(settings)
        self.keys = TokenKeys(settings, revoked) if settings.verifies_tokens else None
        self.authenticator = self._authenticator(settings) if settings.authenticates else None
        """None while authentication is off."""

    def metrics_door(self, record: DoorRecord | None = None) -> MetricsDoor | None:
        """Who may read /metrics; None while authentication is off, when everyone may."""
        return MetricsDoor(self.authenticator, self._required, record) if self.authenticator is not None else None

    def standing(self, credential: Credential) -> Lapse | None:
        """Why a credential that is neither revoked nor expired has lapsed; None if it has not."""
        if self.keys is not None and not all(map(self.keys.verifier.accepts_key, credential.keys)):
            return Lapse.KEY_REMOVED
        if credential.access is not None and credential.access != (self._services(credential.service) or NO_ACCESS):
            return Lapse.PERMISSIONS_CHANGED
        return None

    def _authenticator(self, settings: ServerSettings) -> Authenticator:
        return Authenticator(
            self.keys.verifier if self.keys is not None else None,
            certificate_reader(settings.trust_domain) if settings.client_ca is not None else no_certificates,
            self._services,
            self._revoked,
            self.attempts,
        )


def _required_for_metrics(settings: ServerSettings) -> str:
    """What a request for /metrics without credentials is answered."""
    ways = []
    if settings.verifies_tokens:
        ways.append("a token (Authorization: Bearer …)")
    if settings.client_ca is not None:
        over_tls = "" if settings.http_tls else ", which needs http_tls"
        ways.append(f"the client certificate of a service{over_tls}")
    return f"credentials are required: {', or '.join(ways)}"
