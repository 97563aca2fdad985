"""Connections lost and found: running work goes on, results are kept, errors are told."""

from __future__ import annotations

import grpc
import pytest

from distributor.agent import Agent, server_connection
from distributor.agent.reconnect_backoff import ReconnectBackoff
from distributor.errors import InvalidArgument
from distributor.model.retry_policy import RetryPolicy
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import Gate, background, goodbye, logged, serving

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED


async def test_running_work_goes_on_over_a_restart_of_the_server(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        served.session.ack_output = False
        await served.session.command(assignment("a", "WAIT"))
        await served.session.until(lambda _: served.session.output("a") == b"a waits\n")
        await gateway.stop()
        await gateway.start()
        again = await gateway.attached()
        (running,) = again.hello.running
        assert (running.command_id, running.lease_id, running.output_offset) == ("a", "lease-a-1", 8)
        assert again.hello.instance_id == served.session.hello.instance_id
        keep = pb.HeldCommandVerdict(command_id="a", verdict=pb.VERDICT_KEEP, output_offset=2)
        await again.welcome(verdicts=(keep,))
        gate.open.set()
        result = await again.result("a")
        assert (result.status, result.output_bytes) == (COMPLETED, 13)
        assert again.output("a") == b"waits\ndone\n"


async def test_a_result_is_sent_until_it_is_acknowledged(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        for _ in range(2):
            session.ack_results = False
            if not session.hello.unacknowledged:
                await session.command(assignment("a"))
            await session.result("a")
            session.drop()
            session = await gateway.session()
            assert [held.command_id for held in session.hello.unacknowledged] == ["a"]
        await session.result("a")
        session.drop()
        session = await gateway.session()
        assert not session.hello.unacknowledged


async def test_what_the_server_gave_up_is_stopped_and_not_reported(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.started("a")
        served.session.drop()
        again = await gateway.attached()
        await again.welcome(verdicts=(pb.HeldCommandVerdict(command_id="a", verdict=pb.VERDICT_STOP),))
        await again.command(assignment("b"))
        await again.result("b")
        agent.stop()
        assert await goodbye(again) == "stopped"
        assert [result.command_id for message in again.seen for result in message.results] == ["b"]


async def test_a_silent_server_is_left_and_asked_again(
    gateway: ScriptedGateway, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(agent, gateway, heartbeat_interval=0.05) as served:
        served.session.answer_heartbeats = False
        await gateway.session()
        assert "has gone silent" in caplog.text


async def test_another_live_agent_of_the_same_name_is_reported_and_waited_for(
    gateway: ScriptedGateway, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.refuse = [grpc.StatusCode.ALREADY_EXISTS]
    async with serving(agent, gateway):
        assert gateway.hellos == 2
        assert "another live agent has this agent id" in caplog.text


def use_policy(monkeypatch: pytest.MonkeyPatch, policy: RetryPolicy) -> None:
    """Let agents made from now on wait by this policy. Not by a change of the class: servers of other tests use it."""
    monkeypatch.setattr(server_connection, "ReconnectBackoff", lambda random: ReconnectBackoff(random, policy))


async def test_it_does_not_wait_for_longer_than_the_other_may_live(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Endless(RetryPolicy):
        def delay_ms(self, attempt: int, random: float) -> int:
            return 3_600_000

    use_policy(monkeypatch, Endless())
    gateway.refuse, gateway.retry_after_seconds = [grpc.StatusCode.ALREADY_EXISTS], 0.1
    async with serving(agent, gateway):
        assert gateway.hellos == 2
        assert "retry_in_seconds=0.1" in caplog.text


async def test_waits_are_drawn_at_random_and_begin_anew_once_a_heartbeat_was_answered(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws: list[tuple[int, float]] = []

    class Drawn(RetryPolicy):
        def delay_ms(self, attempt: int, random: float) -> int:
            draws.append((attempt, random))
            return 1

    use_policy(monkeypatch, Drawn())
    gateway.refuse = [grpc.StatusCode.UNAVAILABLE] * 2
    async with serving(agent, gateway, heartbeat_interval=0.5) as served:
        session = served.session
        await session.until(lambda seen: seen[-1].HasField("heartbeat") if seen else False)
        # The reply to the heartbeat is on the wire before this command.
        await session.command(assignment("a"))
        await session.result("a")
        session.drop()
        await gateway.session()
    assert [attempt for attempt, _ in draws] == [1, 2, 1]
    assert len({random for _, random in draws}) == 3


async def test_an_agent_that_the_server_finds_invalid_ends_with_an_error(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    gateway.refuse = [grpc.StatusCode.INVALID_ARGUMENT]
    with pytest.raises(InvalidArgument, match="the server refuses this agent: refused by the script"):
        await agent.serve()


async def test_an_agent_waits_for_a_server_that_is_not_there_yet(gateway: ScriptedGateway, agent: Agent) -> None:
    await gateway.stop()
    with logged("error='Connection refused'") as tried:
        async with background(agent.serve()):
            await tried.wait()
            await gateway.start()
            await gateway.session()


async def test_a_draining_server_is_left_once_idle_and_joined_again(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "WAIT"))
        await session.started("a")
        drain = pb.ConnectResponse()
        drain.drain.reconnect_after.FromMilliseconds(50)
        await session.send(drain)
        await session.until(lambda seen: seen[-1].HasField("heartbeat"))
        assert session.seen[-1].heartbeat.credit == 0
        gate.open.set()
        assert (await session.result("a")).status == COMPLETED
        assert await goodbye(session) == "the server drains"
        again = await gateway.session()
        await again.command(assignment("b"))
        assert (await again.result("b")).status == COMPLETED
        assert "retry_in_seconds" not in caplog.text, "it comes back when it was told to, not when the backoff says"


async def test_a_draining_server_that_ends_the_stream_is_left_with_work_running(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.started("a")
        drain = pb.ConnectResponse()
        drain.drain.reconnect_after.FromSeconds(3_600)
        await served.session.send(drain)
        await served.session.until(lambda seen: seen[-1].HasField("heartbeat"))
        served.session.drop()
        again = await gateway.session()
        gate.open.set()
        assert (await again.result("a")).status == COMPLETED
