"""Settings that limit the cost of credentials that do not verify."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import SettingsGroup


class CredentialLimitSettings(SettingsGroup):
    """Limits of strangers per address, applied by each server and bridge separately."""

    failed_credentials_rate: float = Field(
        10.0,
        ge=0,
        le=1_000_000.0,
        allow_inf_nan=False,
        description="Credentials that do not verify, per second and address. Beyond it, only those that were verified "
        "before are accepted from there. Not those that have expired, or name no key in use. 0 for any number.",
    )
    failed_credentials_burst: int = Field(
        100, ge=1, le=1_000_000, description="Credentials that do not verify that an address may send at once."
    )
