"""The audit view, for administrators."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from playwright.async_api import Browser, expect

from tests.support.audited_server import audited_server
from tests.support.browser import browsing
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import PageWorld, page_world
from tests.support.running_server import RunningServer


@pytest.fixture
async def audited(valkey_url: str, tmp_path: Path) -> AsyncIterator[PageWorld]:
    async with (
        audited_server(valkey_url, tmp_path / "audit.key", audit="on", authenticator=None) as server,
        page_world(server) as world,
    ):
        yield world


async def test_an_administrator_sees_and_filters_who_did_what(browser: Browser, audited: PageWorld) -> None:
    command_id = await audited.server.queue("press-7")
    async with browsing(browser, audited.origin) as (context, problems):
        problems.expect("status of 400 .*/api/audit")
        page = DashboardPage(await context.new_page())
        await page.open()
        await page.page.get_by_role("link", name="Audit", exact=True).click()
        rows = page.page.locator("tbody tr")
        await expect(rows.filter(has_text="server.started")).to_have_count(1)
        await expect(rows.filter(has_text="audit.read").first).to_be_visible()
        await page.picture("audit")
        await page.page.get_by_label("Type", exact=True).fill("command.queued")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(rows).to_have_count(1)
        await expect(rows.get_by_role("link")).to_have_attribute("href", f"#/commands/{command_id}")
        await expect(rows.get_by_role("link")).to_have_text(f"…{command_id[-8:]}")
        table = page.page.locator(".table")
        assert await table.evaluate("table => table.scrollWidth <= table.clientWidth"), "the table is cut"
        await expect(rows).to_contain_text("press-7")
        await page.page.get_by_label("Type", exact=True).fill("")
        await page.page.get_by_label("Outcome").select_option("refused")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(page.page.locator(".empty")).to_contain_text("No entries here")
        await page.page.get_by_label("Outcome").select_option("success")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(rows.filter(has_text="server.started")).to_have_count(1)
        await page.page.reload()
        await expect(page.page.get_by_label("Outcome")).to_have_value("success")
        await page.page.get_by_label("Until").fill("2000-01-01T00:00")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(page.page.locator(".empty")).to_contain_text("No entries here")
        await page.page.get_by_label("Until").fill("")
        await page.page.get_by_label("Since").fill("2000-01-01T00:00")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(rows.filter(has_text="server.started")).to_have_count(1)
        await expect(page.page.get_by_label("Since")).to_have_value("2000-01-01T00:00")
        await page.picture("audit-filters")
        await page.page.get_by_label("Type", exact=True).fill("nonsense")
        await page.page.get_by_role("button", name="Filter", exact=True).click()
        await expect(page.page.locator(".empty")).to_contain_text("cannot be read")


@pytest.mark.parametrize(("role", "tabs"), [("viewer", 0), ("operator", 0), ("admin", 1)])
async def test_only_administrators_have_the_tab(browser: Browser, server: RunningServer, role: str, tabs: int) -> None:
    async with (
        page_world(server, with_agent=False, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        page = DashboardPage(await context.new_page())
        await page.page.goto("/")
        dialog = page.page.get_by_role("dialog")
        await dialog.get_by_label("Token").fill(world.token(role))
        await dialog.get_by_role("button", name="Sign in").click()
        await page.live()
        await expect(page.page.get_by_role("link", name="Commands", exact=True).first).to_be_visible()
        await expect(page.page.get_by_role("link", name="Audit", exact=True)).to_have_count(tabs)
