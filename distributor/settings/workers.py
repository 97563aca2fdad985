"""The setting for the number of processes of a server."""

from __future__ import annotations

from pydantic import Field

from distributor.settings.values import SettingsGroup


class WorkerSettings(SettingsGroup):
    """A mixin of settings groups."""

    workers: int = Field(
        1,
        ge=1,
        le=64,
        description="Processes that share the ports of the server, for `distributor serve`. Limits of agents, calls "
        "and callers apply to each.",
    )
