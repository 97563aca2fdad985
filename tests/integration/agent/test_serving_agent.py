"""Commands on a real stream, from receipt to result."""

from __future__ import annotations

from distributor.agent import Agent, CommandContext, CommandFailed
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.serving_agent import Gate, serving

COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED


async def test_instant_commands_are_answered_in_one_message(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        await served.session.command(*(assignment(str(number)) for number in range(4)))
        message = await served.session.next()
        assert message
        assert [len(part) for part in (message.received, message.started, message.results)] == [4, 4, 4]
        assert {result.status for result in message.results} == {COMPLETED}


async def test_ping_says_who_answers(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway) as served:
        assert served.session.hello.agent_id == "agent123"
        assert sorted(served.session.hello.types) == ["PING", "STOP", "WAIT"]
        await served.session.command(assignment("a"))
        data = (await served.session.result("a")).data.struct_value
        assert data["pong"] is True
        assert data["agent_id"] == "agent123"


async def test_an_authors_handler(gateway: ScriptedGateway, agent: Agent) -> None:
    @agent.handler("GREET")
    async def greet(command: CommandContext) -> dict[str, str]:
        if "name" not in command.params:
            raise CommandFailed("no_name", "params.name is missing", transient=True)
        await command.output("hello\n")
        return {"greeting": f"hello {command.params['name']}"}

    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a", "GREET", name="Ada"), assignment("b", "GREET"))
        good, bad = await session.result("a"), await session.result("b")
        assert (good.status, good.data.struct_value["greeting"]) == (COMPLETED, "hello Ada")
        assert session.output("a") == b"hello\n"
        assert (bad.reason.code, bad.reason.message, bad.transient) == ("no_name", "params.name is missing", True)


async def test_a_stale_command_is_refused_and_one_that_runs_goes_on_under_a_new_lease(
    gateway: ScriptedGateway, agent: Agent, gate: Gate
) -> None:
    async with serving(agent, gateway) as served:
        session = served.session
        await session.command(assignment("a"), after_heartbeat=7)
        assert (await session.refused("a")).code == pb.REFUSAL_CODE_STALE
        await session.command(assignment("b", "WAIT"))
        await session.started("b")
        await session.command(assignment("b", "WAIT", attempt=2))
        await session.until(lambda seen: any(one.lease_id == "lease-b-2" for m in seen for one in m.started))
        gate.open.set()
        result = await session.result("b")
        assert (result.status, result.lease_id) == (COMPLETED, "lease-b-2")


async def test_output_waits_for_acknowledgements(gateway: ScriptedGateway, agent: Agent) -> None:
    written: list[int] = []

    @agent.handler("PRINT")
    async def print_much(command: CommandContext) -> None:
        for _ in range(10):
            await command.output(b"x" * 1_000)
            written.append(1_000)

    async with serving(agent, gateway, max_output=2_500) as served:
        session = served.session
        session.ack_output = False
        await session.command(assignment("a", "PRINT"))
        await session.until(lambda _: len(session.output("a")) == 2_500)
        assert sum(written) == 2_000
        session.ack_output = True
        await session.send(pb.ConnectResponse(output_acks=[pb.OutputAck(command_id="a", offset=2_500)]))
        assert (await session.result("a")).output_bytes == 10_000
        assert session.output("a") == b"x" * 10_000


async def test_heartbeats_tell_credit(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway, heartbeat_interval=0.3) as served:
        await served.session.command(assignment("a", "WAIT"))
        await served.session.until(lambda seen: sum(message.HasField("heartbeat") for message in seen) >= 3)
        beats = [message.heartbeat for message in served.session.seen if message.HasField("heartbeat")]
        assert [beat.sequence for beat in beats] == list(range(1, len(beats) + 1))
        assert (beats[-1].credit, beats[-1].running) == (29, 1)
