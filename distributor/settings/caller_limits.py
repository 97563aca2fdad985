"""Settings that limit what one caller may use."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import SettingsGroup


class CallerLimitSettings(SettingsGroup):
    """Limits per caller: per user or service, or per address while authentication is off.

    Each server counts for itself, except for `caller_commands`, which counts in Valkey.
    """

    caller_call_rate: int = Field(
        5_000, ge=0, le=1_000_000, description="Calls per second that a caller may make; 0 for any number."
    )
    caller_command_rate: int = Field(
        50_000, ge=0, le=10_000_000, description="Commands per second that a caller may queue; 0 for any number."
    )
    caller_burst: float = Field(
        2.0,
        ge=0.001,
        le=3_600.0,
        description="Seconds of `caller_call_rate` and `caller_command_rate` that a caller may use at once.",
    )
    caller_commands: int = Field(
        100_000,
        ge=0,
        le=10_000_000,
        description="Maximum number of unfinished commands that a caller has queued, on all servers together; 0 for "
        "any number. Control commands are not refused for it. Not applied while authentication is off.",
    )
    caller_streams: int = Field(500, ge=1, le=100_000, description="Maximum number of watches that a caller has open.")
