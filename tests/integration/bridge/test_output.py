from __future__ import annotations

import asyncio
import resource
from typing import Any

from distributor.v1 import agent_gateway_pb2
from tests.support.dashboard_client import data_of
from tests.support.output_writer import output_log, output_piece
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer

LINES = [f"line {number}\n".encode() for number in range(200)]
TEXT = b"".join(LINES)


async def test_late_viewers_get_all_then_live(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as early, bridge.dashboard() as late:
        command_id = await early.request("agent123", commandType="PING")
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        printing = asyncio.create_task(_print_all(agent, assignment))
        await early.until(lambda: len(early.of("terminal:output")) >= 50)
        # In the middle of it, while more is printed.
        await late.say("subscribe", output=[{"commandId": command_id}])
        await late.first("terminal:output")
        await printing
        await agent.finish(assignment)
        for dashboard in (early, late):
            await dashboard.first("command:result", commandId=command_id)
            assert dashboard.output(command_id) == TEXT


async def test_from_an_offset_also_after_the_end(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await _print_all(agent, assignment)
        await agent.finish(assignment)
    for offset in (0, 1, 777, len(TEXT) - 1, len(TEXT), len(TEXT) + 5):
        output = [{"commandId": command_id, "offset": offset}]
        async with bridge.dashboard(subscribe={"output": output}) as dashboard:
            await dashboard.first("command:result", commandId=command_id)
            assert dashboard.output(command_id, offset) == TEXT[offset:]
            assert dashboard.types()[-2:] == ["command:status", "command:result"]


async def test_subscribing_again_begins_again(server: RunningServer, bridge: RunningBridge) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="PING")
        (assignment,) = await agent.assigned()
        await agent.print(assignment, b"0123456789", 0)
        await dashboard.first("terminal:output")
        dashboard.messages.clear()
        await dashboard.say("subscribe", output=[{"commandId": command_id, "offset": 4}])
        await dashboard.first("terminal:output")
        assert dashboard.output(command_id, 4) == b"456789"
        await dashboard.say("unsubscribe", output=[command_id])
        await dashboard.settled()
        await agent.print(assignment, b"more", 10)
        await agent.finish(assignment)
        await dashboard.first("command:result", commandId=command_id)
        assert dashboard.output(command_id, 4) == b"456789"


async def test_bytes_are_exact(server: RunningServer, bridge: RunningBridge) -> None:
    pieces = [b"plain", b"\x00\x1b]52;c;aGk=\x07<script>", b"\xff\xfe", "schön €".encode()[:-1], "€".encode()[-1:]]
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="PING")
        (assignment,) = await agent.assigned()
        offset = 0
        for piece in pieces:
            offset = await agent.print(assignment, piece, offset)
        await agent.finish(assignment)
        await dashboard.first("command:result", commandId=command_id)
    assert dashboard.output(command_id) == b"".join(pieces)
    encodings = {data_of(message): message.get("encoding") for message in dashboard.of("terminal:output")}
    assert encodings[b"plain"] is None
    assert encodings[b"\xff\xfe"] == "base64"


async def test_what_the_store_cut_is_a_gap(server: RunningServer, bridge: RunningBridge, valkey_url: str) -> None:
    async with server.agent() as agent, bridge.dashboard() as dashboard:
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        async with output_log(valkey_url, kept=65_536) as log:
            for number in range(20):
                await log.append([output_piece(assignment, 10_000 * number, b"%05d" % number * 2_000)])
        await agent.finish(assignment)
        await dashboard.say("subscribe", output=[{"commandId": command_id, "offset": 5}])
        await dashboard.first("command:result", commandId=command_id)
    (gap,) = dashboard.of("gap")
    assert (gap["beginOffset"], gap["reason"]) == (5, "not_kept")
    assert gap["endOffset"] > 100_000
    assert len(dashboard.output(command_id, gap["endOffset"])) == 200_000 - gap["endOffset"]


async def test_a_hundred_megabytes_in_bounded_memory(server: RunningServer, valkey_url: str) -> None:
    """One viewer reads as fast as it can, one does not read at all until the end: neither costs memory."""
    total, piece = 100_000_000, b"x" * 50_000
    async with (
        running_bridge(server, slow_close=60.0, ping_interval=60.0) as bridge,
        server.agent() as agent,
        bridge.dashboard(checked=False) as reader,
        bridge.stranger() as sleeper,
    ):
        command_id = await server.queue()
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await reader.say("subscribe", output=[{"commandId": command_id}])
        await reader.first("command:status")
        sleeper.socket.transport.pause_reading()
        await sleeper.say("dashboard:connect", token=bridge.token(), subscribe={"output": [{"commandId": command_id}]})
        tally = _Tally(reader.messages)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        async with output_log(valkey_url, kept=1_048_576) as log:
            for offset in range(0, total, 20 * len(piece)):
                await log.append([output_piece(assignment, offset + n * len(piece), piece) for n in range(20)])
                tally.take()
        grown_kilobytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        await agent.finish(assignment)
        await reader.first("command:result")
        tally.take()
        sleeper.socket.transport.resume_reading()
        await sleeper.first("command:result")
    assert tally.reached == total
    assert grown_kilobytes < 60_000
    assert sleeper.of("gap")
    seen = sum(len(data_of(message)) for message in sleeper.of("terminal:output"))
    missed = sum(message["endOffset"] - message["beginOffset"] for message in sleeper.of("gap"))
    assert seen + missed == total


class _Tally:
    """Counts output without keeping it; fails where a byte is missing without a gap, or came twice."""

    def __init__(self, messages: list[dict[str, Any]]) -> None:
        self._messages = messages
        self.reached = 0

    def take(self) -> None:
        kept = []
        for message in self._messages:
            if message["type"] == "gap":
                assert message["beginOffset"] == self.reached
                self.reached = message["endOffset"]
            elif message["type"] == "terminal:output":
                assert message["offset"] == self.reached
                self.reached += len(message["data"])
            else:
                kept.append(message)
        self._messages[:] = kept


async def _print_all(agent: Any, assignment: agent_gateway_pb2.Assignment) -> None:
    offset = 0
    for line in LINES:
        offset = await agent.print(assignment, line, offset)
