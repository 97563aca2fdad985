"""The setting that names a policy file; of servers and agents."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field, field_validator

from distributor.settings.values import SettingsGroup


class PolicySettings(SettingsGroup):
    """A mixin of settings groups."""

    policy_file: Path | None = Field(
        None,
        description="TOML file with the registered command types, and what services may do. Read again when it "
        "changes.",
        json_schema_extra={"shown_default": "none"},
    )

    @field_validator("policy_file")
    @classmethod
    def _absolute_policy(cls, policy_file: Path | None) -> Path | None:
        return policy_file.expanduser().absolute() if policy_file else None
