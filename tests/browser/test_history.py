"""What the page says of a command beside its timeline: attempts, cancels in doubt, late reports."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Route, expect

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.wire.documents import milliseconds_of, time_text
from tests.support.dashboard_page import DashboardPage
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.page_world import PageWorld
from tests.support.running_server import COMPLETED, FAILED, RunningServer


@pytest.fixture
async def agent(server: RunningServer, world: PageWorld) -> AsyncIterator[DrivenAgent]:
    """An agent that does as the test says, beside that of the page."""
    async with driven_agent(server.address, "a1") as agent:
        yield agent


async def test_attempts_that_ended_are_shown_as_they_end(
    page: DashboardPage, server: RunningServer, agent: DrivenAgent
) -> None:
    command_id = await server.queue("a1", max_runs=2, max_runs_by_reason={"exit_nonzero": 5})
    await agent.start(command_id)
    await page.open(f"commands/{command_id}")
    await expect(page.status).to_have_text("assigned")
    await expect(page.fact("Runs")).to_have_text("up to 2, if failures are transient")
    await expect(page.fact("Runs by reason")).to_have_text("exit_nonzero=5")
    attempts = page.page.get_by_label("Earlier attempts")
    await expect(attempts).to_have_count(0)

    await agent.finish(command_id, FAILED, reason="exit_nonzero", transient=True)

    await expect(attempts).to_contain_text("Attempt 1: started")
    await expect(attempts).to_contain_text("on a1")
    await expect(attempts).to_contain_text("exit_nonzero exit nonzero")
    await page.picture("attempts")


async def test_a_command_that_could_not_be_stopped_names_what_runs(
    page: DashboardPage, server: RunningServer, agent: DrivenAgent
) -> None:
    command_id = await server.queue("a1")
    await agent.start(command_id)
    await page.open(f"commands/{command_id}")
    await page.page.get_by_role("button", name="Cancel").click()
    await expect(page.fact("Cancel")).to_contain_text("; sent to the agent")
    lease_id = (await agent.assignment(command_id)).lease_id
    survivors = [pb.SurvivingProcess(pid=12, name="sleep 9")]
    finding = pb.CANCEL_FINDING_COULD_NOT_STOP
    report = pb.CancelReport(command_id=command_id, finding=finding, lease_id=lease_id, survivors=survivors)

    await agent.wire.send(cancel_reports=[report])

    await expect(page.status).to_have_text("not stopped")
    await expect(page.page.locator(".notice")).to_have_text(
        "The agent could not stop this command: still running: 12 (sleep 9). It ends once nothing of it runs."
    )
    await expect(page.fact("Cancel")).to_contain_text("; the agent could not stop it")
    await page.picture("could-not-stop")


async def test_a_late_report_is_shown_beside_the_result(
    page: DashboardPage, server: RunningServer, agent: DrivenAgent
) -> None:
    command_id = await server.queue("a1")
    await agent.start(command_id)
    await agent.finish(command_id, FAILED, reason="exit_nonzero")
    await agent.finish(command_id, COMPLETED, exit_code=0, data={"late": True})

    await page.open(f"commands/{command_id}")

    await expect(page.status).to_have_text("failed")
    late = page.page.get_by_label("Late report", exact=True)
    await expect(late).to_contain_text("The agent reported completed at ")
    await expect(late).to_contain_text("and changes nothing")
    await expect(page.page.get_by_label("Late report data")).to_have_text('{\n  "late": true\n}')
    await page.picture("late-report")


async def test_a_silent_command_says_for_how_long(
    page: DashboardPage, server: RunningServer, agent: DrivenAgent
) -> None:
    """The bridge's answer is changed: a command that has really been silent for so long would take as long."""
    command_id = await server.queue("a1")
    await agent.start(command_id)

    async def silent_for_90_s(route: Route) -> None:
        answer = await route.fetch()
        document = await answer.json()
        queued_ms = milliseconds_of(document["command"]["receipts"]["queueTime"])
        document["command"]["progressTime"] = time_text(queued_ms - 90_000)
        await route.fulfill(response=answer, json=document)

    await page.page.route("**/api/commands/*", silent_for_90_s)
    await page.open(f"commands/{command_id}")

    await expect(page.fact("Progress")).to_have_text(re.compile(r"^silent for (1|2) min"))
