"""Settings that decide which labels of agents count."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field

from distributor.settings.values import NameList, SettingsGroup


def _check_names(names: tuple[str, ...]) -> tuple[str, ...]:
    if any(not 1 <= len(name) <= 256 or not name.isprintable() for name in names):
        raise ValueError("must be names of labels, each of 1 to 256 printable characters, or *")
    return names


class LabelSettings(SettingsGroup):
    """Which labels agents must prove."""

    verified_labels: Annotated[NameList, AfterValidator(_check_names)] = Field(
        (),
        max_length=100,
        description="Names of labels that count only if the agent's certificate or token has them; `*` for all. List "
        "those that grants, types and emergency stops rely on, on every server. Needs authentication.",
        json_schema_extra={"shown_default": "empty"},
    )
