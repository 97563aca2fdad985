"""A server and a bridge whose Valkey is watched by Sentinels, through a failover."""

from __future__ import annotations

from pathlib import Path

import grpc

from distributor.agent import Agent, CommandContext
from tests.support.running_bridge import running_bridge
from tests.support.running_server import COMPLETED, RunningServer, running_server
from tests.support.serving_agent import Flag, background
from tests.support.valkey_sentinel import ValkeySentinel
from tests.support.waiting import eventually, until


async def queued(server: RunningServer) -> str | None:
    """The id of a new command; None while callers are to try again."""
    try:
        return await server.queue("press-7", "WORK")
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return None


async def ended(server: RunningServer, command_id: str) -> bool:
    """Whether a command is completed, as far as that can be read now."""
    try:
        return (await server.state(command_id)).status == COMPLETED
    except grpc.aio.AioRpcError as error:
        if error.code() is not grpc.StatusCode.UNAVAILABLE:
            raise
        return False


async def test_a_command_runs_through_a_failover_and_others_follow(tmp_path: Path) -> None:
    """Each is started once, and a bridge reads on."""
    free, started = Flag(), list[str]()

    async def work(command: CommandContext) -> None:
        started.append(command.command_id)
        await free.wait()

    async with (
        ValkeySentinel(tmp_path) as sentinel,
        running_server(sentinel.url, heartbeat_interval=1.5, start_within=10.0) as server,
        running_bridge(server, valkey_url=sentinel.url) as bridge,
    ):
        agent = Agent("press-7", server=server.address)
        agent.add_handler("WORK", work)
        async with background(agent.serve()):
            await until(lambda: server.process.has_agent("press-7"))
            first = await server.queue("press-7", "WORK")
            await server.until_state(first, lambda state: state.receipts.HasField("start_time"))
            before = await sentinel.primary()
            await sentinel.replicated()
            await before.kill()
            await sentinel.fail_over_from(before)
            free.set()
            second = await eventually(lambda: queued(server))
            await eventually(lambda: ended(server, first))
            await eventually(lambda: ended(server, second))
            assert started == [first, second]

            async def shown() -> bool:
                return (await bridge.get(f"/api/commands/{second}")).status == 200

            await eventually(shown)
