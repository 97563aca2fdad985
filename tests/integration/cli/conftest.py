"""Command lines against a CommandService in memory."""

from __future__ import annotations

from tests.support.command_service_fixtures import server, service

__all__ = ["server", "service"]
