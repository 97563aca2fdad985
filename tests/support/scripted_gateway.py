"""The scripted gateway of the conformance kit, on a free port."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributor.conformance.messages import assignment, welcome
from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.conformance.scripted_session import ScriptedSession
from tests.support.free_port import free_port

__all__ = ["ScriptedGateway", "ScriptedSession", "assignment", "scripted_gateway", "welcome"]


@asynccontextmanager
async def scripted_gateway() -> AsyncIterator[ScriptedGateway]:
    """A gateway listening on a free port of loopback."""
    with free_port() as port:
        served = ScriptedGateway(port)
        await served.start()
        try:
            yield served
        finally:
            await served.stop()
