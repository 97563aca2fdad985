"""Followers learn of agents that go away."""

from __future__ import annotations

import asyncio

import pytest

from distributor.cli.sender import presence_monitor
from distributor.cli.sender.presence_monitor import PresenceMonitor
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.send_options import WaitOptions
from distributor.cli.sender.staying import Stay
from distributor.client import CommandClient, CommandRequest
from tests.support.fake_command_service import FakeCommandService


async def test_an_agent_that_goes_is_told_once_and_so_is_its_return(
    service: FakeCommandService, server: str, capsys: pytest.CaptureFixture[str]
) -> None:
    service.connect_agent("a1")
    async with CommandClient(server) as client:
        looking = PresenceMonitor(client, Screen("table"), lambda: ["a1", "a1", "forgotten"])
        await looking.run_once()
        assert capsys.readouterr().err == ""

        service.disconnect_agent("a1")
        await looking.run_once()
        await looking.run_once()
        told = "agent a1 has been away since 2027-01-15T08:00:02.000Z; what it runs may go on there\n"
        assert capsys.readouterr().err == told

        service.connect_agent("a1")
        await looking.run_once()
        await looking.run_once()
        assert capsys.readouterr().err == "agent a1 is back\n"


@pytest.mark.parametrize("how", [WaitOptions(wait=True), WaitOptions(follow=True)])
@pytest.mark.parametrize("count", [1, 2])
async def test_whoever_stays_looks_at_agents_that_run_something(
    service: FakeCommandService, server: str, monkeypatch: pytest.MonkeyPatch, how: WaitOptions, count: int
) -> None:
    monkeypatch.setattr(presence_monitor, "LOOK_SECONDS", 0.0)
    service.connect_agent("a1")
    async with CommandClient(server) as client:
        ids = [(await client.queue(CommandRequest("a1", "EXEC"))).command.command_id for _ in range(count)]
        stay = asyncio.create_task(Stay(client, Screen("table"), ids, how).run())
        await service.until(lambda: service.calls["WatchCommand"] + service.calls["WatchCommands"] > 0)
        assert service.calls["GetAgent"] == 0

        service.start(ids[0])
        await service.until(lambda: service.calls["GetAgent"] > 1)
        for command_id in ids:
            service.finish(command_id)
        assert await stay == 0
