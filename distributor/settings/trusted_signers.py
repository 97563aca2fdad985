"""Settings of an agent that verifies the signatures of senders."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import NameList, SettingsGroup


class TrustedSignerSettings(SettingsGroup):
    """A mixin of settings groups."""

    trusted_signers: NameList = Field(
        (),
        description="Comma-separated public keys (PEM files, or folders of `*.pem`) whose signatures count; "
        "`FILE:TYPE:TYPE` only for these types.",
        json_schema_extra={"shown_default": "empty"},
    )
    require_signature: NameList = Field(
        (),
        description="Comma-separated command types that must be signed, such as `EXEC`; `*` for all. `PING` and `STOP` "
        "never need it.",
        json_schema_extra={"shown_default": "empty"},
    )
