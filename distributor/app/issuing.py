"""Reads the CA with which a server issues certificates."""

from __future__ import annotations

from pathlib import Path

from distributor.errors import ConfigurationError
from distributor.identity.authority import Authority
from distributor.identity.issuer import Issuer
from distributor.settings import ServerSettings


def agent_issuer(settings: ServerSettings) -> Issuer | None:
    """What issues certificates to agents; None without `ca_key`. Raises ConfigurationError."""
    if settings.ca_key is None or settings.client_ca is None:
        return None
    authority = Authority.from_pem(_read(settings.client_ca, "client_ca"), _read(settings.ca_key, "ca_key"))
    server_ca = b""
    if settings.tls_cert is not None and authority.has_issued_first(_read(settings.tls_cert, "tls_cert")):
        # Otherwise agents recognise the server by authorities of their own.
        server_ca = authority.certificate_pem
    return Issuer(authority, settings.trust_domain, settings.certificate_lifetime, settings.renewal_grace, server_ca)


def _read(path: Path, field: str) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path} ({field}): {error.strerror}", field=field) from error
