"""What an agent compresses, and what it understands."""

from __future__ import annotations

import gzip
from typing import Any

import pytest

from distributor.agent import Agent, CommandContext, Compression
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.serving_agent import serving

REPORT = "nothing to report\n" * 1_000


@pytest.fixture
def reporter(agent: Agent) -> Agent:
    """An agent with a handler whose output and result are large."""

    @agent.handler("REPORT")
    async def report(command: CommandContext) -> dict[str, Any]:
        await command.output(REPORT)
        return {"report": REPORT, "arguments": len(command.params)}

    return agent


async def said(session: ScriptedSession, command_id: str) -> list[pb.ConnectRequest]:
    """All messages up to the command's result, as they were on the wire."""

    def plain(message: pb.ConnectRequest) -> pb.ConnectRequest:
        return pb.ConnectRequest.FromString(gzip.decompress(message.gzip)) if message.gzip else message

    await session.until(lambda seen: any(r.command_id == command_id for m in seen for r in plain(m).results))
    return session.as_sent


async def test_large_output_and_results_are_compressed_for_a_server_that_accepts_it(
    gateway: ScriptedGateway, reporter: Agent
) -> None:
    async with serving(reporter, gateway, accepts_gzip=True) as served:
        assert served.session.hello.accepts_gzip
        await served.session.command(assignment("a", "REPORT"))
        messages = await said(served.session, "a")
        assert sum(len(message.gzip) for message in messages) < 1_000
        assert not any(message.output or message.results for message in messages)
        unpacked = [pb.ConnectRequest.FromString(gzip.decompress(one.gzip)) for one in messages if one.gzip]
        assert b"".join(part.data for one in unpacked for part in one.output).decode() == REPORT
        (result,) = (result for one in unpacked for result in one.results)
        assert result.data.struct_value["report"] == REPORT


async def test_small_results_stay_plain(gateway: ScriptedGateway, agent: Agent) -> None:
    async with serving(agent, gateway, accepts_gzip=True) as served:
        await served.session.command(*(assignment(str(number)) for number in range(4)))
        assert (await served.session.result("0")).data.struct_value["pong"] is True
        assert not any(message.gzip for message in served.session.as_sent)


async def test_a_server_that_does_not_accept_it_gets_plain_messages(gateway: ScriptedGateway, reporter: Agent) -> None:
    async with serving(reporter, gateway) as served:
        await served.session.command(assignment("a", "REPORT"))
        assert (await served.session.result("a")).data.struct_value["report"] == REPORT
        assert not any(message.gzip for message in served.session.as_sent)


async def test_an_agent_with_compression_off_neither_compresses_nor_asks_for_it(
    gateway: ScriptedGateway, reporter: Agent
) -> None:
    reporter.compression = Compression(enabled=False)
    async with serving(reporter, gateway, accepts_gzip=True) as served:
        assert not served.session.hello.accepts_gzip
        await served.session.command(assignment("a", "REPORT"))
        assert (await served.session.result("a")).data.struct_value["report"] == REPORT
        assert not any(message.gzip for message in served.session.as_sent)


async def test_compressed_commands_are_run(gateway: ScriptedGateway, reporter: Agent) -> None:
    async with serving(reporter, gateway) as served:
        commands = pb.ConnectResponse(commands=pb.Commands(assignments=[assignment("a", "REPORT", one=1, two=2)]))
        await served.session.send(pb.ConnectResponse(gzip=gzip.compress(commands.SerializeToString())))
        assert (await served.session.result("a")).data.struct_value["arguments"] == 2


async def test_a_bomb_from_the_server_drops_the_stream_and_the_agent_reconnects(
    gateway: ScriptedGateway, agent: Agent
) -> None:
    async with serving(agent, gateway) as served:
        await served.session.send(pb.ConnectResponse(gzip=gzip.compress(bytes(20 * 1024 * 1024))))
        again = await gateway.session()
        await again.command(assignment("a"))
        assert (await again.result("a")).data.struct_value["pong"] is True
