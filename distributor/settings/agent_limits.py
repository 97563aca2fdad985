"""Settings that limit how an agent connects."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import SettingsGroup


class AgentLimitSettings(SettingsGroup):
    """Limits per authenticated agent, at each server for itself. They keep one agent from using up those of all."""

    agent_connects: int = Field(
        60,
        ge=0,
        le=100_000,
        description="Times per minute, and at once, that an agent may open its stream; 0 for any number. Not applied "
        "while authentication is off.",
    )
    agent_streams: int = Field(
        10,
        ge=2,
        le=10_000,
        description="Maximum number of open streams of one agent, those included whose end is not known yet. Not "
        "applied while authentication is off.",
    )
