"""Settings of TLS to Valkey."""

from __future__ import annotations

from typing import Final, Self

from pydantic import model_validator

from distributor.settings.tls import FilePath, check_pair, file_setting
from distributor.settings.values import SettingsGroup, ValkeyUrl

_TLS_SCHEMES: Final = ("valkeys://", "rediss://", "valkeys+", "rediss+")


class ValkeyTls(SettingsGroup):
    """TLS of the connections to `valkey_url`, a setting of the groups that have this one."""

    valkey_url: ValkeyUrl
    valkey_ca: FilePath | None = file_setting(
        "PEM file with the authorities of Valkey's certificate, for `valkeys://`; empty trusts those of the system."
    )
    valkey_cert: FilePath | None = file_setting("PEM file with a client certificate for Valkey.")
    valkey_key: FilePath | None = file_setting("PEM file with its private key, without a passphrase.")

    @model_validator(mode="after")
    def _for_tls(self) -> Self:
        check_pair(self, "valkey_cert", "valkey_key")
        if (self.valkey_ca or self.valkey_cert) and not self.valkey_url.startswith(_TLS_SCHEMES):
            raise ValueError(
                "valkey_ca and valkey_cert need a valkey_url that begins with valkeys:// or valkeys+sentinel://"
            )
        return self
