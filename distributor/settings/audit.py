"""Settings of the audit trail."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from distributor.settings.tls import FilePath, file_setting
from distributor.settings.values import Seconds, SettingsGroup


class AuditSettings(SettingsGroup):
    """The audit trail of a server. All servers on one Valkey write one trail, so they need the same key file."""

    audit: Literal["auto", "on", "off"] = Field(
        "auto", description="Keep an audit trail: `on`, `off`, or while authentication is on (`auto`)."
    )
    audit_key_file: FilePath | None = file_setting(
        "File with the keys of the audit trail, readable by the server's user only (0600). Made in `data_dir` for an "
        "embedded Valkey, required for any other."
    )
    audit_retention: Seconds = Field(
        30 * 86_400.0, description="Seconds that rows of the audit trail are kept; whole segments of a day are pruned."
    )
    audit_max_rows: int = Field(
        1_000_000, ge=10_000, le=100_000_000, description="Rows of the audit trail kept, about; the oldest are pruned."
    )
    audit_max_bytes: int = Field(
        536_870_912,
        ge=1_048_576,
        le=1_099_511_627_776,
        description="Bytes of rows of the audit trail kept, about; the oldest are pruned.",
    )
    audit_checkpoint_interval: Seconds = Field(
        300.0, description="Seconds between signed checkpoints of the audit trail, which agents remember."
    )
