"""Hostile values in params and results: shown exactly, and sent again exactly."""

from __future__ import annotations

import json
from typing import Final

import pytest
from playwright.async_api import expect

from distributor.client import CommandClient, CommandRequest
from tests.support.dashboard_page import DashboardPage
from tests.support.hostile_values import EXACT, LARGE_ONES, spelt
from tests.support.running_server import RunningServer
from tests.support.wire_agent import result

BATCHES: Final = {"many": EXACT} | {name: {"v": value} for name, value in LARGE_ONES.items()}


@pytest.mark.parametrize("batch", BATCHES)
async def test_values_are_shown_and_sent_again_exactly(page: DashboardPage, server: RunningServer, batch: str) -> None:
    """All in one command, so in one view: its params, the data of its result, and the form to send it again."""
    values = BATCHES[batch]
    async with CommandClient(server.address) as client, server.agent() as agent:
        queued = await client.queue(CommandRequest("agent123", "PRINT", values))
        await agent.heartbeat()
        (assignment,) = await agent.assigned()
        echo = result(assignment)
        echo.data.struct_value.CopyFrom(assignment.command.params)
        await agent.report(echo)
        await page.open(f"commands/{queued.command.command_id}")
        data = page.page.get_by_label("Result").locator(".json")
        assert spelt(json.loads(await page.fact("Params").inner_text())) == spelt(values)
        assert spelt(json.loads(await data.inner_text())) == spelt(values)
        await page.page.get_by_role("link", name="Edit and send…").click()
        area = page.page.get_by_label("Params (JSON)", exact=True)
        await expect(area).not_to_have_value("")
        assert spelt(json.loads(await area.input_value())) == spelt(values)
        await page.page.get_by_role("button", name="Send", exact=True).click()
        again = await page.shown_command()
        assert spelt((await client.get(again)).params) == spelt(values)
