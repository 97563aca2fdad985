"""A background task of the agent that fails is reported, and heartbeats that fail end their stream."""

from __future__ import annotations

from typing import NoReturn

import pytest

from distributor.agent import Agent
from distributor.agent.orphan_watch import OrphanWatch
from distributor.agent.workload import Workload
from tests.support.scripted_gateway import ScriptedGateway
from tests.support.serving_agent import logged, serving


async def broken(*_: object) -> NoReturn:
    raise OSError("broken")


async def test_a_background_task_that_fails_is_logged(
    gateway: ScriptedGateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(OrphanWatch, "run", broken)
    agent = Agent("agent123", server=gateway.address)
    agent.orphan_after = 30.0
    with logged("a background task failed") as reported:
        async with serving(agent, gateway):
            await reported.wait()


async def test_a_stream_whose_heartbeats_fail_is_dropped(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Workload, "vitals", broken)
    with logged("the stream was dropped because of an error") as reported:
        async with serving(agent, gateway, heartbeat_interval=0.05):
            await reported.wait()
