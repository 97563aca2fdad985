"""Settings of the certificates that a server issues to agents."""

from __future__ import annotations

import re
from typing import Annotated, Final

from pydantic import AfterValidator, Field, JsonValue

from distributor.settings.tls import FilePath, file_setting
from distributor.settings.values import Servers, SettingsGroup

_TRUST_DOMAIN: Final = re.compile(r"[a-z0-9._-]{1,255}")
_EMPTY: Final[dict[str, JsonValue]] = {"shown_default": "empty"}
_MAX_LIFETIME: Final = 366 * 86_400.0


def _check_trust_domain(domain: str) -> str:
    if not _TRUST_DOMAIN.fullmatch(domain):
        raise ValueError("must be 1 to 255 of a-z 0-9 . _ -")
    return domain


class EnrolmentSettings(SettingsGroup):
    """How agents get certificates."""

    trust_domain: Annotated[str, AfterValidator(_check_trust_domain)] = Field(
        "distributor",
        description="Trust domain of client certificates, whose URI is `spiffe://<trust_domain>/agent/<agent_id>` or "
        "`…/service/<name>`.",
    )
    ca_key: FilePath | None = file_setting(
        "PEM file with the private key of a CA in `client_ca`; with it, the server issues certificates to agents that "
        "enrol."
    )
    certificate_lifetime: float = Field(
        86_400.0,
        ge=2.0,
        le=_MAX_LIFETIME,
        description="Seconds that issued certificates are valid. Agents renew them after two thirds of it.",
    )
    renewal_grace: float = Field(
        604_800.0,
        ge=0.0,
        le=_MAX_LIFETIME,
        description="Seconds after its expiry during which an agent may still renew a certificate, as after a long "
        "sleep.",
    )
    agent_servers: Servers | Annotated[str, Field(pattern="^$")] = Field(
        "",
        description="Addresses of `mtls_listen` as enrolled agents reach them, `host:port`, separated by commas; empty "
        "for the host at which they enrol.",
        json_schema_extra=_EMPTY,
    )
