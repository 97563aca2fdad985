"""Settings that limit what credentials that do not verify may cost."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import SettingsGroup


class CredentialLimitSettings(SettingsGroup):
    """Limits per address of what comes from strangers, at each server and bridge for itself."""

    failed_credentials_rate: float = Field(
        10.0,
        ge=0,
        le=1_000_000.0,
        allow_inf_nan=False,
        description="Credentials per second that do not verify, from one address; beyond that, none of this address is "
        "checked whose last check is not remembered. 0 for any number.",
    )
    failed_credentials_burst: int = Field(
        100, ge=1, le=1_000_000, description="Credentials that do not verify which an address may send at once."
    )
