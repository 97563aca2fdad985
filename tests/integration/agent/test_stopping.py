"""The ways to leave: STOP, the server's word, the author's."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from distributor.agent import Agent, JournalPolicy
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import Gate, goodbye, serving
from tests.support.waiting import PATIENCE_SECONDS

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED


async def test_stop_finishes_the_other_work_and_leaves(gateway: ScriptedGateway, agent: Agent, gate: Gate) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "WAIT"), assignment("s", "STOP", reason="test"))
        await session.started("s")
        await session.command(assignment("late", "WAIT"))
        assert (await session.refused("late")).code == pb.REFUSAL_CODE_BUSY
        assert not any(message.results for message in session.seen)
        gate.open.set()
        assert (await session.result("a")).status == COMPLETED
        stop = await session.result("s")
        assert (stop.status, stop.data.struct_value["reason"]) == (COMPLETED, "test")
        assert await goodbye(session) == "test"
        await served.task
        assert await session.next() is None
        assert session.half_closed


async def test_stop_can_cancel_the_other_work(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "WAIT"), assignment("s", "STOP", running="cancel"))
        result = await session.result("a")
        assert (result.status, result.reason.code) == (CANCELLED, "agent_stopped")
        assert (await session.result("s")).status == COMPLETED
        await served.task


async def test_two_stops_do_not_wait_for_each_other(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("s", "STOP"), assignment("t", "STOP"))
        assert (await served.session.result("s")).status == COMPLETED
        # Control commands are taken while the agent leaves.
        assert (await served.session.result("t")).status == COMPLETED
        await served.task


@pytest.mark.parametrize("journal", [True, False], ids=["journal", "no journal"])
@pytest.mark.parametrize("turns", range(40))
async def test_an_agent_that_is_cancelled_while_it_connects_ends(
    gateway: ScriptedGateway, tmp_path: Path, turns: int, journal: bool
) -> None:
    agent = Agent("agent123", server=gateway.address)
    agent.journal = JournalPolicy(tmp_path / "agent.journal") if journal else None
    serving = asyncio.create_task(agent.serve())
    for _ in range(turns):
        await asyncio.sleep(0)
    serving.cancel()
    done, _ = await asyncio.wait([serving], timeout=PATIENCE_SECONDS)
    assert done


@pytest.mark.parametrize("params", [{"running": "maybe"}, {"reason": 5}])
async def test_a_stop_that_is_not_understood_stops_nothing(
    gateway: ScriptedGateway, agent: Agent, params: dict[str, Any]
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("s", "STOP", **params))
        assert (await served.session.result("s")).reason.code == "invalid_params"
        await served.session.command(assignment("a"))
        assert (await served.session.result("a")).status == COMPLETED


async def test_the_server_can_tell_the_agent_to_leave(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        await served.session.send(pb.ConnectResponse(stop=pb.Stop(reason="end of life")))
        assert await goodbye(served.session) == "end of life"
        await served.task


async def test_leaving_waits_for_the_acknowledgement_of_the_last_result(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        session.ack_results = False
        await session.command(assignment("s", "STOP"))
        await session.result("s")
        session.drop()
        again = await gateway.session()
        assert (await again.result("s")).status == COMPLETED
        await goodbye(again)
        await served.task


async def test_an_agent_that_can_no_longer_deliver_leaves_in_the_end(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("distributor.agent.runtime.SETTLE_SECONDS", 0.05)
    async with serving(agent, gateway) as served:
        served.session.ack_results = False
        await served.session.command(assignment("s", "STOP"))
        await served.task
        assert "left with results that the server has not acknowledged agent_id=agent123 results=1" in caplog.text


async def test_running_work_has_a_limited_time_to_finish(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.started("a")
        agent.stop("maintenance", within=0.05)
        result = await served.session.result("a")
        assert (result.status, result.reason.code) == (CANCELLED, "agent_stopped")
        await served.task


async def test_each_line_of_the_log_says_the_same_words_and_the_rest_in_fields(
    gateway: ScriptedGateway, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "distributor.agent")
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT", attempt=2))
        await served.session.started("a")
        await served.session.cancel("a")
        await served.session.result("a")
        agent.stop("maintenance")
        await served.task
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("distributor.agent")]
    connected, stopping, leaving = ours
    assert connected == f"connected agent_id=agent123 epoch=1 server={gateway.address} version=unknown"
    assert stopping == "stopping agent_id=agent123 attempt=2 cause=cancelled command_id=a"
    assert leaving == "leaving agent_id=agent123 reason=maintenance still_running=0"
