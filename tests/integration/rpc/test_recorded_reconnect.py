"""The reconnect in docs/protocol.md is what a server says: a run of it is compared with the page."""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.struct_pb2 import Struct, Value

from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.recorded_exchange import RecordedExchange
from tests.support.running_server import COMPLETED, RunningServer
from tests.support.source_tree import ROOT
from tests.support.wire_agent import WireAgent, hello, opened_stream, running

PAGE: Final = ROOT / "docs" / "protocol.md"
BEGIN, END = "<!-- reconnect:begin -->\n", "<!-- reconnect:end -->"
AGENT: Final[dict[str, Any]] = {"agent_id": "press-7", "instance_id": "f3a1", "capacity": 2, "types": ["PRINT"]}


def output(assignment: pb.Assignment, offset: int, data: bytes) -> pb.Output:
    return pb.Output(**held(assignment), stream=1, offset=offset, data=data)  # type: ignore[arg-type]


def held(assignment: pb.Assignment) -> dict[str, str]:
    return {"command_id": assignment.command.command_id, "lease_id": assignment.lease_id}


async def attach(exchange: RecordedExchange, agent: WireAgent, **changes: Any) -> None:
    await exchange.say(agent, hello=hello(**AGENT | changes))
    await agent.until(lambda: agent.messages)


async def recorded(server: RunningServer) -> list[str]:
    exchange = RecordedExchange()
    async with opened_stream(server.address) as agent:
        await attach(exchange, agent)
        exchange.hear(agent)
        assignments = []
        for text in ("long", "short"):
            command_id = await server.queue("press-7", "PRINT", params={"text": text})
            assignments.append(await agent.next_assignment(command_id))
        long, short = assignments
        both = [held(one) for one in assignments]
        await exchange.say(
            agent, received=[pb.Received(**one) for one in both], started=[pb.Started(**one) for one in both]
        )
        await exchange.say(agent, output=[output(long, 0, b"page 1\n")])
        await agent.until(lambda: agent.output_acks(long.command.command_id) == [7])
        exchange.hear(agent)
    exchange.note("   the connection breaks; short ends, long goes on and prints 7 bytes more")
    await server.until_away("press-7")
    async with opened_stream(server.address) as agent:
        await attach(
            exchange, agent, running=[running(long, output_offset=14)], unacknowledged=[running(short, output_offset=0)]
        )
        await exchange.say(agent, output=[output(long, 7, b"page 2\n")])
        await agent.until(lambda: agent.output_acks(long.command.command_id) == [14])
        done = Value(struct_value=Struct(fields={"pages": Value(number_value=1.0)}))
        await exchange.say(agent, results=[pb.Result(**held(short), status=COMPLETED, data=done)])  # type: ignore[arg-type]
        await agent.until(lambda: agent.result_acks)
        exchange.hear(agent)
    exchange.note("   the connection breaks again, and the agent takes it that the acknowledgement was lost")
    await server.until_away("press-7")
    async with opened_stream(server.address) as agent:
        await attach(
            exchange, agent, running=[running(long, output_offset=14)], unacknowledged=[running(short, output_offset=0)]
        )
        await exchange.say(agent, heartbeat=pb.Heartbeat(sequence=1, credit=1, running=1))
        await agent.until(lambda: agent.answered_heartbeat == 1)
        exchange.hear(agent)
    return exchange.lines


async def test_the_page_has_what_the_server_says(server: RunningServer) -> None:
    block = "```\n" + "\n".join(await recorded(server)) + "\n```\n"
    kept = PAGE.read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert kept == block, f"paste this into {PAGE.name}:\n{block}"
