"""What the agent enforces by itself: the time limit, the idle limit, and `orphan_after`; and what heartbeats report."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest

from distributor.agent import Agent, BlockingContext, CommandContext
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import Gate, serving
from tests.support.waiting import PATIENCE_SECONDS, until

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED
TIMEOUT = command_pb2.COMMAND_STATUS_TIMEOUT
FAILED = command_pb2.COMMAND_STATUS_FAILED


def idle(command_id: str, command_type: str, idle_limit: float) -> pb.Assignment:
    given = assignment(command_id, command_type)
    given.command.idle_limit.FromNanoseconds(int(idle_limit * 1e9))
    return given


@pytest.mark.parametrize("kind", ["async def", "def"])
async def test_an_extension_reaches_the_server_before_the_result(
    gateway: ScriptedGateway, agent: Agent, kind: str
) -> None:
    async def extends(command: CommandContext) -> str:
        command.extend(60.0)
        return "done"

    def extends_in_a_thread(command: BlockingContext) -> str:
        command.extend(60.0)
        return "done"

    handlers: dict[str, Any] = {"async def": extends, "def": extends_in_a_thread}
    agent.add_handler("EXTEND", handlers[kind])
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "EXTEND", time_limit=30))
        assert (await served.session.result("a")).status == COMPLETED
        seen = served.session.seen
        (extension,) = [part for message in seen for part in message.extensions]
        (result,) = [part for message in seen for part in message.results]
        places = [place for place, message in enumerate(seen) if message.extensions or message.results]
        assert seen[places[0]].extensions
        assert (extension.command_id, extension.lease_id) == ("a", result.lease_id)
        assert 60.0 <= extension.time_limit.ToTimedelta().total_seconds() < 60.0 + PATIENCE_SECONDS


async def test_the_agent_ends_a_silent_command_and_not_one_that_makes_progress(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    @agent.handler("SILENT")
    async def silent(command: CommandContext) -> None:
        await command.output("begun")
        await Gate().open.wait()

    @agent.handler("ALIVE")
    def alive(command: BlockingContext) -> None:
        for _ in range(8):
            command.progress()
            time.sleep(0.1)

    async with serving(agent, gateway) as served:
        await served.session.command(idle("a", "SILENT", 0.5), idle("b", "ALIVE", 0.5))
        result = await served.session.result("a")
        assert (result.status, result.reason.code) == (TIMEOUT, "idle_limit")
        assert (await served.session.result("b")).status == COMPLETED


async def test_an_agent_without_a_server_stops_its_work_and_reports_it_later(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    agent.orphan_after = 1.0
    stopped = threading.Event()

    @agent.handler("WORK")
    def work(command: BlockingContext) -> None:
        try:
            command.sleep(PATIENCE_SECONDS)
        finally:
            stopped.set()

    async with serving(agent, gateway, heartbeat_interval=0.2) as served:
        session = served.session
        await session.command(assignment("a", "WORK"))
        await session.started("a")
        await session.until(lambda seen: sum(message.HasField("heartbeat") for message in seen) >= 10)
        assert not stopped.is_set(), "heartbeats were answered"
        session.answer_heartbeats = False
        await until(stopped.is_set)
        again = await gateway.session()
        result = await again.result("a")
        assert (result.status, result.reason.code) == (TIMEOUT, "orphaned")


async def test_heartbeats_report_how_long_each_command_has_been_silent(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway, heartbeat_interval=0.4) as served:
        session = served.session
        await session.command(assignment("a", "WAIT"))
        await session.started("a")

        def silences(seen: list[pb.ConnectRequest]) -> list[float]:
            return [
                part.silence.ToTimedelta().total_seconds() for message in seen for part in message.heartbeat.progress
            ]

        await session.until(lambda seen: len(silences(seen)) >= 3)
        first, *_, last = silences(session.seen)
        assert last > first
        gate.open.set()
        await session.result("a")


async def test_heartbeats_report_a_blocked_event_loop_while_it_is_blocked(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("distributor.agent.workload.LAG_PROBLEM_SECONDS", 0.3)
    release = threading.Event()

    @agent.handler("BLOCK")
    async def block(command: CommandContext) -> None:
        release.wait(PATIENCE_SECONDS)

    try:
        async with serving(agent, gateway, heartbeat_interval=0.2) as served:
            session = served.session
            await session.command(assignment("a", "BLOCK"))

            def lags(seen: list[pb.ConnectRequest]) -> list[float]:
                beats = [message.heartbeat for message in seen if message.HasField("heartbeat")]
                return [beat.handler_lag.ToTimedelta().total_seconds() for beat in beats if beat.problems]

            await session.until(lambda seen: len(lags(seen)) >= 2)
            assert lags(session.seen)[0] >= 0.3
            beat = next(message.heartbeat for message in session.seen if message.heartbeat.problems)
            assert [problem.code for problem in beat.problems] == ["handler_lag"]
            release.set()
            await session.result("a")
            await session.until(lambda seen: seen[-1].HasField("heartbeat") and not seen[-1].heartbeat.problems)
    finally:
        release.set()


async def test_a_cancelled_handler_that_does_not_stop_is_reported_and_cancelled_once_it_has_ended(
    gateway: ScriptedGateway,
) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=2, stop_grace=0.05)
    release = threading.Event()

    @agent.handler("DEAF")
    def deaf(command: BlockingContext) -> None:
        release.wait(PATIENCE_SECONDS)
        command.sleep(0)

    try:
        async with serving(agent, gateway, heartbeat_interval=0.4) as served:
            session = served.session
            await session.command(assignment("a", "DEAF"))
            await session.started("a")
            await session.cancel("a")

            def findings(seen: list[pb.ConnectRequest]) -> list[int]:
                return [report.finding for message in seen for report in message.cancel_reports]

            await session.until(lambda seen: len(findings(seen)) == 2)
            assert findings(session.seen) == [pb.CANCEL_FINDING_STOPPING, pb.CANCEL_FINDING_COULD_NOT_STOP]
            await session.until(
                lambda seen: [problem.code for problem in seen[-1].heartbeat.problems] == ["would_not_stop"]
            )
            beat = session.seen[-1].heartbeat
            assert (beat.running, beat.credit) == (1, 1), "it keeps its capacity"
            assert not any(message.results for message in session.seen)
            release.set()
            result = await session.result("a")
            assert (result.status, result.reason.code) == (CANCELLED, "cancelled")
    finally:
        release.set()


async def test_a_def_handler_that_never_notices_a_cancel_completes(gateway: ScriptedGateway, agent: Agent) -> None:
    release = threading.Event()

    @agent.handler("DEAF")
    def deaf(command: BlockingContext) -> str:
        release.wait(PATIENCE_SECONDS)
        return "done"

    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "DEAF"))
        await served.session.started("a")
        await served.session.cancel("a")
        await served.session.until(lambda seen: any(message.cancel_reports for message in seen))
        release.set()
        result = await served.session.result("a")
        assert (result.status, result.data.string_value) == (COMPLETED, "done")


@pytest.mark.parametrize("way", ["stop", "STOP"])
async def test_an_agent_that_leaves_does_not_wait_for_a_handler_that_does_not_stop(
    gateway: ScriptedGateway, way: str
) -> None:
    agent = Agent("agent123", server=gateway.address, capacity=2, stop_grace=0.05)
    release = threading.Event()

    @agent.handler("DEAF")
    def deaf(command: BlockingContext) -> None:
        release.wait()

    try:
        async with serving(agent, gateway) as served:
            session = served.session
            await session.command(assignment("a", "DEAF"))
            await session.started("a")
            await session.cancel("a")
            await session.until(lambda seen: sum(len(message.cancel_reports) for message in seen) == 2)
            if way == "stop":
                agent.stop("maintenance")
            else:
                await session.command(assignment("s", "STOP"))
            result = await session.result("a")
            assert (result.status, result.reason.code) == (FAILED, "would_not_stop")
            assert [one.name for one in result.survivors] == ["agent DEAF handler"]
            await served.task
    finally:
        release.set()
