"""Settings that limit what one user, or one address, may use of a bridge."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.credential_limits import CredentialLimitSettings


class BridgeLimitSettings(CredentialLimitSettings):
    """Limits per user, and per address until the user is known. Each bridge counts for itself."""

    user_connections: int = Field(
        100, ge=1, le=100_000, description="Maximum number of connected dashboards of one user."
    )
    user_message_rate: float = Field(
        200.0,
        ge=0,
        le=1_000_000.0,
        allow_inf_nan=False,
        description="Messages and API requests per second of one user, on all connections together; 0 for any number.",
    )
    user_message_burst: float = Field(
        5.0,
        ge=0.001,
        le=86_400.0,
        allow_inf_nan=False,
        description="Seconds of `user_message_rate` that a user may use at once.",
    )
    address_connections: int = Field(
        200,
        ge=1,
        le=100_000,
        description="Maximum number of WebSocket connections from one address that have not sent a valid "
        "`dashboard:connect`.",
    )
