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
        description="Credentials per second that do not verify, from one address; beyond that, none of this address is "
        "checked whose last check is not remembered. 0 for any number.",
    )
    failed_credentials_burst: int = Field(
        100, ge=1, le=1_000_000, description="Credentials that do not verify which an address may send at once."
    )
