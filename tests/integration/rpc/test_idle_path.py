"""What one command that ends at once costs on an idle system: exchanges with Valkey, and messages."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from distributor.dispatch import watches
from distributor.rpc import stream_writer
from distributor.store.index_checker import ValkeyIndexChecker
from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.valkey_connection import ValkeyConnection
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_service_pb2 as pb
from tests.support.running_server import EAGER, RunningServer, running_server
from tests.support.wire_agent import result

BACKGROUND = (["due"], ["probe"], ["forget"])
"""What the loops of a server call, whether there are commands or not. They also look at Valkey's settings."""
BACKGROUND_COMMANDS = {"XREAD", "XRANGE", "XREVRANGE", "EXISTS", "XINFO", "ZCARD", "SET", "PEXPIRE"}
"""Other commands that the loops send: to read the event stream, and to measure it and the queues."""


class Counted:
    """The functions of each exchange, and the other commands that the server sent to Valkey."""

    def __init__(self) -> None:
        self.exchanges: list[list[str]] = []
        self.others: list[str] = []


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> Counted:
    counts = Counted()
    submit, call, calls = PipelinedConnection.submit, ValkeyConnection.call, ValkeyConnection.calls

    def counted_submit(self, commands):  # type: ignore[no-untyped-def]
        names = [str(command[1]).rpartition("_")[0] for command in commands]
        looks_at_settings = commands[0][:2] == ("CONFIG", "GET")
        if names not in BACKGROUND and not looks_at_settings:
            counts.exchanges.append(names)
        return submit(self, commands)

    async def counted_call(self, *arguments):  # type: ignore[no-untyped-def]
        if arguments[0] not in BACKGROUND_COMMANDS:
            counts.others.append(str(arguments[0]))
        return await call(self, *arguments)

    async def counted_calls(self, commands):  # type: ignore[no-untyped-def]
        if commands[0][0] not in BACKGROUND_COMMANDS:
            counts.others += [str(command[0]) for command in commands]
        return await calls(self, commands)

    monkeypatch.setattr(PipelinedConnection, "submit", counted_submit)
    monkeypatch.setattr(ValkeyConnection, "call", counted_call)
    monkeypatch.setattr(ValkeyConnection, "calls", counted_calls)
    return counts


@asynccontextmanager
async def watching(server: RunningServer) -> AsyncIterator[AsyncIterator[pb.WatchCommandsResponse]]:
    """All changes of the agent's commands."""
    changes = server.commands.WatchCommands(pb.WatchCommandsRequest(agent_ids=["agent123"]))
    stream = aiter(changes)
    await anext(stream)
    yield stream
    changes.cancel()


def done(assignment: gateway.Assignment) -> dict[str, Any]:
    """The parts of the one message of an agent about a command that ends at once."""
    lease = {"command_id": assignment.command.command_id, "lease_id": assignment.lease_id}
    return {
        "received": [gateway.Received(**lease)],
        "started": [gateway.Started(**lease)],
        "results": [result(assignment)],
    }


async def not_now(checker: ValkeyIndexChecker, rest_ms: int) -> bool:
    return False


async def test_two_exchanges_and_one_message_each_way(
    valkey_url: str, counted: Counted, monkeypatch: pytest.MonkeyPatch
) -> None:
    # No background loop may fall into the count, and no slow machine separate what travels together.
    monkeypatch.setattr(ValkeyIndexChecker, "take_turn", not_now)
    monkeypatch.setattr(stream_writer, "ACK_DELAY_SECONDS", 600.0)
    monkeypatch.setattr(watches, "SETTLE_SECONDS", 600.0)
    rare: dict[str, Any] = {"heartbeat_interval": 600, "start_within": 700, "ack_deadline": 800, "offline_after": 900}
    timing = replace(EAGER, gauges=600.0)
    async with (
        running_server(valkey_url, polling_interval=600, timing=timing, **rare) as server,
        server.agent() as agent,
    ):
        async with watching(server) as changes:
            first = await agent.next_assignment(await server.queue())
            received = len(agent.messages)
            await agent.send(**done(first))
            await anext(changes)
            counted.exchanges.clear()
            counted.others.clear()
            ended = [first.command.command_id]
            for _ in range(3):
                command_id = await server.queue()
                await agent.send(**done(await agent.next_assignment(command_id)))
                response = await anext(changes)
                assert [(one.command_id, one.state.revision) for one in response.commands] == [(command_id, 3)]
                ended.append(command_id)
        assert counted.exchanges == 3 * [["enqueue", "claim"], ["finish"]]
        assert counted.others == []
        # Each message with a command also has the acknowledgement of the result before it.
        assert [
            (
                [one.command.command_id for one in message.commands.assignments],
                [one.command_id for one in message.result_acks],
            )
            for message in agent.messages[received:]
        ] == [([after], [before]) for before, after in pairwise(ended)]
