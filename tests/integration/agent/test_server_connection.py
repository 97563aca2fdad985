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
from tests.support.scripted_gateway import ScriptedGateway, assignment, scripted_gateway
from tests.support.serving_agent import Gate, background, goodbye, logged, serving
from tests.support.waiting import until

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


async def test_the_live_agent_reports_that_another_instance_claims_its_id(
    gateway: ScriptedGateway, agent: Agent, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.send(pb.ConnectResponse(probe=pb.Probe(peer="192.0.2.7:4242")))
        await served.session.command(assignment("a"))
        await served.session.result("a")
        assert "another instance claims this agent's id agent_id=agent123 peer=192.0.2.7:4242" in caplog.text


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


def drain(reconnect_after_seconds: float) -> pb.ConnectResponse:
    message = pb.ConnectResponse()
    message.drain.reconnect_after.FromMilliseconds(round(reconnect_after_seconds * 1000))
    return message


async def test_an_agent_works_for_a_draining_server_until_another_is_ready_and_moves_there_with_its_work(
    gateway: ScriptedGateway, agent: Agent, gate: Gate, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "WAIT"))
        await session.started("a")
        await gateway.set_serving(False)
        await session.send(drain(0.0))
        await session.command(assignment("b"))
        assert (await session.result("b")).status == COMPLETED
        assert not session.said_goodbye()
        await gateway.set_serving(True)
        assert await goodbye(session) == "moved to another server"
        again = await gateway.attached()
        assert [held.command_id for held in again.hello.running] == ["a"]
        await again.welcome(verdicts=(pb.HeldCommandVerdict(command_id="a", verdict=pb.VERDICT_KEEP),))
        gate.open.set()
        assert (await again.result("a")).status == COMPLETED
        assert "retry_in_seconds" not in caplog.text


async def test_an_agent_goes_from_a_draining_server_to_another_address(gate: Gate) -> None:
    async with scripted_gateway() as first, scripted_gateway() as second:
        agent = Agent("agent123", server=f"{first.address},{second.address}")
        async with background(agent.serve()):
            await until(lambda: first.hellos + second.hellos)
            here, there = (first, second) if first.hellos else (second, first)
            session = await here.session()
            await session.send(drain(0.0))
            await there.session()
            assert here.hellos == 1


async def test_an_agent_that_leaves_meanwhile_takes_its_running_work_to_the_next_server(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.started("a")
        agent.stop("shift over")
        await served.session.send(drain(0.0))
        again = await gateway.attached()
        await again.welcome(verdicts=(pb.HeldCommandVerdict(command_id="a", verdict=pb.VERDICT_KEEP),))
        gate.open.set()
        assert (await again.result("a")).status == COMPLETED
        assert await goodbye(again) == "shift over"
        await served.task


async def test_a_draining_server_that_ends_the_stream_is_left_with_work_running(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.started("a")
        await served.session.send(drain(3_600.0))
        served.session.drop()
        again = await gateway.session()
        gate.open.set()
        assert (await again.result("a")).status == COMPLETED


async def test_a_server_that_stopped_as_announced_is_sought_without_growing_waits(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch
) -> None:
    attempts: list[int] = []

    class Noted(RetryPolicy):
        def delay_ms(self, attempt: int, random: float) -> int:
            attempts.append(attempt)
            return 1

    use_policy(monkeypatch, Noted())
    async with serving(agent, gateway) as served:
        await served.session.send(drain(3_600.0))
        await gateway.stop()
        await until(lambda: len(attempts) > 5)
        await gateway.start()
        await gateway.session()
    assert set(attempts) == {1}


async def test_without_a_wait_the_next_of_several_servers_is_tried(caplog: pytest.LogCaptureFixture) -> None:
    async with scripted_gateway() as first, scripted_gateway() as second:
        agent = Agent("agent123", server=f"{first.address},{second.address}")
        async with background(agent.serve()):
            await until(lambda: first.hellos + second.hellos)
            here, there = (first, second) if first.hellos else (second, first)
            await here.session()
            await here.stop()
            await there.session()
            assert "retry_in_seconds=0.0" in caplog.text


async def test_an_agent_returns_when_the_server_says_and_its_waits_do_not_grow(
    gateway: ScriptedGateway, agent: Agent, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Endless(RetryPolicy):
        def delay_ms(self, attempt: int, random: float) -> int:
            return 3_600_000

    use_policy(monkeypatch, Endless())
    gateway.refuse, gateway.retry_after_seconds = [grpc.StatusCode.UNAVAILABLE] * 5, 0.1
    async with serving(agent, gateway):
        assert gateway.hellos == 6
        assert caplog.text.count("retry_in_seconds=0.1") == 5
