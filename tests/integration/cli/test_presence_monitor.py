"""Followers learn of agents that go away."""

from __future__ import annotations

import asyncio

import pytest

from distributor.cli.sender import presence_monitor
from distributor.cli.sender.command_wait import CommandWait
from distributor.cli.sender.presence_monitor import PresenceMonitor
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.send_options import WaitOptions
from distributor.client import CommandClient, CommandRequest
from distributor.wire.documents import time_text
from tests.support.driven_agent import driven_agent
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer


async def test_an_agent_that_goes_is_told_once_and_so_is_its_return(
    running: RunningServer, capsys: pytest.CaptureFixture[str]
) -> None:
    async with CommandClient(running.address) as client:
        monitor = PresenceMonitor(client, Screen("table"), lambda: ["a1", "a1", "forgotten"])
        async with driven_agent(running.address):
            await monitor.run_once()
            assert capsys.readouterr().err == ""

        since = (await running.until_away("a1")).away_since.ToMilliseconds()
        await monitor.run_once()
        await monitor.run_once()
        told = f"agent a1 has been away since {time_text(since)}; its commands may still be running\n"
        assert capsys.readouterr().err == told

        async with driven_agent(running.address):
            await monitor.run_once()
            await monitor.run_once()
            assert capsys.readouterr().err == "agent a1 is back\n"


@pytest.mark.parametrize("how", [WaitOptions(wait=True), WaitOptions(follow=True)])
@pytest.mark.parametrize("count", [1, 2])
async def test_whoever_stays_looks_at_agents_that_run_something(
    server: str, faults: RpcFaults, monkeypatch: pytest.MonkeyPatch, how: WaitOptions, count: int
) -> None:
    monkeypatch.setattr(presence_monitor, "CHECK_SECONDS", 0.0)
    async with CommandClient(server) as client:
        ids = [(await client.queue(CommandRequest("a1", "EXEC"))).command.command_id for _ in range(count)]
        wait = asyncio.create_task(CommandWait(client, Screen("table"), ids, how).run())
        await faults.until(lambda: faults.calls["WatchCommand"] + faults.calls["WatchCommands"] > 0)
        assert faults.calls["GetAgent"] == 0

        async with driven_agent(server) as agent:
            await agent.start(ids[0])
            await faults.until(lambda: faults.calls["GetAgent"] > 1)
            for command_id in ids:
                await agent.finish(command_id)
            assert await wait == 0
