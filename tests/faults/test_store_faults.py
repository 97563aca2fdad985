"""A Valkey that dies under the server, or holds nonsense."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path
from typing import Final

from valkey.asyncio import Valkey

from distributor.client import CommandClient, CommandRequest, CommandStatus
from distributor.store import keys
from distributor.v1 import command_service_pb2 as pb
from tests.support.launched_programs import launched_agent
from tests.support.launched_server import LaunchedServer, descendants_of, launched_server, somewhere
from tests.support.running_server import COMPLETED, running_server
from tests.support.waiting import PATIENCE_SECONDS

NONSENSE: Final = (
    "garbage",
    "finished\tagent123\tPING",
    b"\xff",
    "[]",
    '{"event": "finished"}',
    '{"event": "finished", "revision": 99, "agent_id": "agent123", "status": "completed", "attempt": "1"}',
    '{"event": "started", "revision": -1, "agent_id": "agent123", "status": "assigned", "attempt": 1}',
    '{"event": "started", "revision": 99, "agent_id": "agent123", "status": "paused", "attempt": 1}',
    '{"event": "paused", "agent_id": "agent123"}',
)
"""Events that are malformed, or that only a later version would understand."""


async def address_of(server: LaunchedServer) -> str:
    line = await server.line("grpc=")
    found = re.search(r"grpc=(\S+)", line)
    assert found is not None, line
    return found[1]


async def kill_valkey(server: LaunchedServer) -> None:
    (valkey,) = descendants_of(server.process.pid)
    os.kill(valkey, signal.SIGKILL)


async def test_an_embedded_valkey_that_is_killed_comes_back_and_commands_run(tmp_path: Path) -> None:
    async with launched_server("serve", *somewhere(tmp_path), "--log-format=console") as server:
        address = await address_of(server)
        await kill_valkey(server)
        ended = await server.line("the embedded Valkey ended, restarting it")
        assert "exit_code=-9" in ended
        await server.line("the embedded Valkey is running again")
        async with launched_agent(address, "agent123"), CommandClient(address) as client:
            queued = await client.queue(CommandRequest("agent123", "PING"))
            result = await client.wait(queued.command.command_id, timeout_seconds=PATIENCE_SECONDS)
            assert result.status is CommandStatus.COMPLETED
        server.process.send_signal(signal.SIGTERM)
        assert await server.ended() == 0, server.everything


async def test_one_that_does_not_stay_ends_the_server_with_one_clear_error(tmp_path: Path) -> None:
    async with launched_server("serve", *somewhere(tmp_path), "--log-format=console") as server:
        await address_of(server)
        for restarts in range(1, 4):
            await kill_valkey(server)
            await server.line("the embedded Valkey is running again", times=restarts)
        await kill_valkey(server)
        assert await server.ended() == 5, server.everything
        last = server.stderr[-1]
        assert last.startswith(
            "distributor: the embedded Valkey ended again (exit code -9) after 3 restarts within 60 s"
        )
        assert "Traceback" not in server.everything


async def test_nonsense_in_the_event_stream_ends_neither_the_server_nor_a_watch(valkey_url: str) -> None:
    """The watch is served by another replica than the agent, so that its end comes through the stream."""
    async with (
        running_server(valkey_url) as watching,
        running_server(valkey_url) as server,
        server.agent() as agent,
        Valkey.from_url(valkey_url) as valkey,
    ):
        command_id = await server.queue()
        watch = watching.commands.WatchCommands(pb.WatchCommandsRequest(command_ids=[command_id]))
        assignment = await agent.next_assignment(command_id)
        statuses = []
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for update in watch:
                statuses += [command.state.status for command in update.commands]
                if len(statuses) == 1:
                    for event in NONSENSE:
                        await valkey.xadd(keys.EVENTS, {"origin": "x", command_id: event})
                    await valkey.xadd(keys.EVENTS, {"temperature": 21})
                    await agent.finish(assignment)
        assert statuses[-1] == COMPLETED
        for one in (watching, server):
            stopped = asyncio.ensure_future(one.process.run())
            await asyncio.wait({stopped}, timeout=0)
            assert not stopped.done()
            stopped.cancel()
