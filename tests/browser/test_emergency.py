"""Emergency stops on the page."""

from __future__ import annotations

import re

from playwright.async_api import expect

from distributor.v1 import emergency_pb2
from tests.support.dashboard_page import DashboardPage
from tests.support.emergency import CONFIRMED, emergency, reports, resume, stop
from tests.support.page_world import AGENT_ID, PageWorld


async def test_everyone_sees_a_stop_and_an_administrator_ends_it(page: DashboardPage, world: PageWorld) -> None:
    await page.open("agents")
    begun = await stop(world.server, "page-*", "zone=<b>", reason="bad \x1b[31m release")
    banner = page.page.get_by_role("alert").filter(has_text="Emergency stop")
    await expect(banner).to_contain_text(re.compile(r"for page-\*, zone=<b> since \S+.*: bad .*release. Nothing is"))
    assert (await reports(world.server, begun.stop_id))[AGENT_ID].status == CONFIRMED
    await expect(page.page.get_by_text("emergency_stop")).to_be_visible()
    await page.picture("emergency-stop-in-force")
    await banner.get_by_role("button", name="Resume").click()
    await expect(banner).to_have_count(0)
    assert not (await emergency(world.server).ListStops(emergency_pb2.ListStopsRequest())).stops


async def test_the_button_asks_to_confirm(page: DashboardPage, world: PageWorld) -> None:
    await page.open("agents")
    await page.page.get_by_role("button", name="Emergency stop…").click()
    form = page.page.get_by_role("dialog")
    await form.get_by_label("Agents").fill("page-agent, web-*")
    await form.get_by_label("Reason").fill("leak")
    await page.picture("emergency-stop-form")
    await form.get_by_role("button", name="Stop", exact=True).click()
    await expect(form, "it is not sent before it is confirmed").to_be_visible()
    await form.get_by_label("I want to end all work there now").check()
    await form.get_by_role("button", name="Stop", exact=True).click()
    await expect(form).to_have_count(0)
    await expect(page.page.get_by_role("alert").filter(has_text="Emergency stop")).to_contain_text("page-agent, web-*")
    (begun,) = (await emergency(world.server).ListStops(emergency_pb2.ListStopsRequest())).stops
    assert list(begun.scope.selectors) == ["page-agent", "web-*"]
    await resume(world.server)
