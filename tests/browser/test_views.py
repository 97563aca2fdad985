"""Each view: by its address, by keyboard alone, light and dark, on a phone, empty, and without what npm brings."""

from __future__ import annotations

import asyncio
import json
import re

import pytest
from playwright.async_api import Browser, Route, WebSocketRoute, expect

from distributor.model.agent import AgentInfo
from distributor.wire.documents import agent_document
from tests.support.browser import VENDORED, browsing
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import AGENT_ID, PageWorld, page_world
from tests.support.running_server import RunningServer

COLOURS = r"printf '\033[32mok\033[0m 41 files\n\033[33mwarn\033[0m 2 files\n\033[38;2;210;60;90mtrue colour\033[0m\n'"


async def something_to_see(world: PageWorld) -> str:
    """Commands in every state; returns one that failed."""
    queue, result = world.server.queue, world.server.result
    ended = [await queue(AGENT_ID, "PING") for _ in range(12)]
    failed = await queue(AGENT_ID, "EXEC", params={"argv": ["sh", "-c", f"{COLOURS}; exit 3"]})
    for command_id in (*ended, failed):
        await result(command_id)
    await queue("edge-berlin-03", "PING", priority=75)
    await queue(AGENT_ID, "SCRIPT")
    return failed


async def test_the_overview(page: DashboardPage, world: PageWorld) -> None:
    await something_to_see(world)
    await page.open()
    await expect(page.rows).to_have_count(10)
    agent = page.page.locator(f'tr[data-agent="{AGENT_ID}"]')
    await expect(agent.locator(".status")).to_have_text("online")
    await expect(agent.locator('[data-label="seen"]')).to_have_text(re.compile(r"just now|s ago"))
    await expect(agent.locator('[data-label="slots"]')).to_have_text("1 of 4")
    await expect(agent.locator('[data-label="running"]')).to_have_text("1")
    throughput = page.page.get_by_label("Throughput")
    await expect(throughput).to_contain_text("12 completed, 1 not completed")
    await expect(throughput.locator("canvas, .empty")).to_have_count(1)
    assert await throughput.locator("canvas").count() == (1 if VENDORED else 0)
    await page.picture("overview")


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_pictures_of_the_views(browser: Browser, world: PageWorld, scheme: str) -> None:
    failed = await something_to_see(world)
    async with browsing(browser, world.origin, color_scheme=scheme) as (context, _):
        page = DashboardPage(await context.new_page())
        for name, path in {"agents": "agents", "commands": "commands", "send": f"send?agent={AGENT_ID}"}.items():
            await page.open(path)
            await expect(page.page.locator("tbody tr, form").first).to_be_visible()
            await page.picture(f"{name}-{scheme}")
        await page.open(f"commands/{failed}")
        await expect(page.output).to_contain_text("true colour")
        await page.picture(f"command-{scheme}")
        await page.open()
        await expect(page.rows).to_have_count(10)
        await page.picture(f"overview-{scheme}")


async def test_dark_follows_the_system_until_it_is_chosen(browser: Browser, world: PageWorld) -> None:
    async with browsing(browser, world.origin, color_scheme="dark") as (context, _):
        page = DashboardPage(await context.new_page())
        await page.open()
        root = page.page.locator("html")
        await expect(root).to_have_attribute("data-theme", "dark")
        await page.page.get_by_role("button", name="Switch to light").click()
        await expect(root).to_have_attribute("data-theme", "light")
        await page.page.reload()
        await expect(root).to_have_attribute("data-theme", "light")
        await page.page.get_by_role("button", name="Switch to dark").click()
        await expect(root).to_have_attribute("data-theme", "dark")
        await page.page.emulate_media(color_scheme="light")
        await expect(root).to_have_attribute("data-theme", "light")


async def test_a_phone_shows_all_without_scrolling_sideways(browser: Browser, world: PageWorld) -> None:
    failed = await something_to_see(world)
    async with browsing(browser, world.origin, viewport={"width": 360, "height": 740}) as (context, _):
        page = DashboardPage(await context.new_page())
        for path in ("", "agents", "commands", "send", f"commands/{failed}"):
            await page.open(path)
            await expect(page.page.locator("main .view").first).to_be_visible()
            assert await page.page.evaluate("document.documentElement.scrollWidth") <= 360, path
        await expect(page.stage("finished")).to_be_visible()
        await page.picture("command-phone")
        named = await world.server.queue("an-agent-with-quite-a-long-name-even-for-a-host.example.org")
        await page.open("commands")
        await expect(page.row(named)).to_contain_text("host.example.org")
        cut = "row => [...row.querySelectorAll('td > a')].some(a => a.getBoundingClientRect().right > innerWidth)"
        assert not await page.row(named).evaluate(cut)
        await page.picture("commands-phone")
        await page.page.get_by_role("button", name="Keyboard shortcuts").click()
        await expect(page.page.get_by_role("dialog")).to_be_visible()


async def test_every_view_has_an_address(page: DashboardPage, world: PageWorld) -> None:
    failed = await something_to_see(world)
    await page.open("commands?status=failed&agent=page-agent&within=1h")
    await expect(page.rows).to_have_count(1)
    await expect(page.page.get_by_role("button", name="Failed only")).to_have_attribute("aria-pressed", "true")
    await page.row(failed).get_by_role("link").first.click()
    await expect(page.page).to_have_url(re.compile(f"#/commands/{failed}$"))
    await expect(page.status).to_have_text("failed")
    await page.page.go_back()
    await expect(page.rows).to_have_count(1)
    await page.open("nonsense")
    await expect(page.page.get_by_text("Page not found")).to_be_visible()


async def test_the_keyboard_alone_is_enough(page: DashboardPage, world: PageWorld) -> None:
    await page.open()
    keyboard = page.page.keyboard
    await keyboard.press("Tab")
    await expect(page.page.get_by_role("link", name="Skip to content")).to_be_focused()
    await keyboard.press("Enter")
    await expect(page.page.locator("#content")).to_be_focused()
    await keyboard.press("n")
    await expect(page.page.get_by_label("Command line")).to_be_focused()
    await keyboard.type("sleep 60")
    await keyboard.press("Control+Enter")
    await expect(page.status).to_have_text("assigned")
    await keyboard.press("x")
    await expect(page.status).to_have_text("cancelled")
    await page.press_pair("g", "c")
    await expect(page.rows).to_have_count(1)
    await keyboard.press("j")
    await expect(page.rows.get_by_role("link").first).to_be_focused()
    await keyboard.press("Enter")
    await expect(page.stage("finished")).to_be_visible()
    await keyboard.press("/")
    await expect(page.page.get_by_label("Agent")).to_be_focused()
    await keyboard.press("Tab")
    await page.page.locator("#content").focus()
    await keyboard.press("?")
    await expect(page.page.get_by_role("dialog")).to_contain_text("Cancel the open command")
    await keyboard.press("Escape")
    await expect(page.page.get_by_role("dialog")).to_have_count(0)


async def test_the_terminal_lets_the_keyboard_out(page: DashboardPage) -> None:
    await page.send("echo done", agent_id=AGENT_ID)
    await expect(page.output).to_contain_text("done")
    await page.page.locator(".xterm-helper-textarea, .plain-terminal").focus()
    await page.press_pair("g", "a")
    await expect(page.page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()


async def test_nothing_there_yet(browser: Browser, server: RunningServer) -> None:
    async with (
        page_world(server, with_agent=False) as world,
        browsing(browser, world.origin) as (context, problems),
    ):
        page = DashboardPage(await context.new_page())
        await page.open()
        await expect(page.page.get_by_text("No agents yet")).to_be_visible()
        await expect(page.page.get_by_text("No commands yet")).to_be_visible()
        await page.picture("empty")
        await page.open("commands?status=failed")
        await expect(page.page.get_by_text("No matching commands")).to_be_visible()
        problems.expect("status of 404 .*/api/commands/")
        await page.open("commands/01999bd2-6f0e-7c41-9f4a-8d2c1f0a7b33")
        await expect(page.page.get_by_text("Command not found")).to_be_visible()


async def test_agents_beyond_what_a_snapshot_holds(page: DashboardPage, world: PageWorld) -> None:
    def agents(count: int) -> list[dict[str, object]]:
        return [
            agent_document(AgentInfo(f"agent-{number:04}", 1, True, 4, 0, 2, (), {}, "", 1, 1, 0))
            for number in range(count)
        ]

    def snapshot(to_page: WebSocketRoute) -> None:
        def relay(text: str | bytes) -> None:
            message = json.loads(text)
            to_page.send(json.dumps(message | ({"agents": agents(1_000)} if message["type"] == "connected" else {})))

        to_page.connect_to_server().on_message(relay)

    answered = asyncio.Event()

    async def answer(route: Route) -> None:
        await answered.wait()
        await route.fulfill(json={"agents": agents(1_050)})

    await page.page.route_web_socket("**/ws", snapshot)
    await page.page.route("**/api/agents", answer)
    await page.open("agents")
    agents_shown = page.page.locator("tr[data-agent]")
    await expect(agents_shown).to_have_count(100)
    await expect(page.page.get_by_text("only the first 1,00")).to_be_visible()
    answered.set()
    await expect(page.page.get_by_text("only the first 1,00")).to_have_count(0)
    await page.open("agents?page=10")
    await expect(page.page.locator('tr[data-agent="agent-0900"]')).to_be_visible()
    await page.page.get_by_role("link", name="Next").click()
    await expect(page.page.locator('tr[data-agent="agent-1049"]')).to_be_visible()
    await expect(page.page.get_by_role("link", name="Next")).to_be_disabled()
    await page.open("agents?page=99")
    await expect(page.page.locator('tr[data-agent="agent-1049"]')).to_be_visible()
    await page.open()
    await expect(agents_shown).to_have_count(20)
    await expect(page.page.locator('.tile:has-text("Queued") dd')).to_have_text(re.compile("^2,10"))


async def test_pressing_enter_again_goes_on_to_the_next_page(page: DashboardPage, world: PageWorld) -> None:
    await world.server.queue_many(80, agent_id="away", command_type="PING")
    await page.open("commands")
    await expect(page.rows).to_have_count(25)
    shown = await page.rows.first.get_attribute("data-command")
    await page.page.get_by_role("link", name="Older").focus()
    for rows in (25, 25, 5):
        await page.page.keyboard.press("Enter")
        await expect(page.row(str(shown))).to_have_count(0)
        await expect(page.rows).to_have_count(rows)
        shown = await page.rows.first.get_attribute("data-command")
    await expect(page.page.get_by_role("link", name="Older")).to_be_disabled()


async def test_what_is_no_id_is_not_asked_for(page: DashboardPage) -> None:
    await page.open("commands/nonsense")
    await expect(page.page.get_by_text("Command not found")).to_be_visible()
    await page.page.reload()
    await page.live()
    await page.page.get_by_role("link", name="Agents").click()
    await expect(page.page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()
    await expect(page.page.locator(".toast")).to_have_count(0)


async def test_without_what_npm_brings_all_but_charts_and_colours_works(browser: Browser, world: PageWorld) -> None:
    async def missing(route: Route) -> None:
        await route.fulfill(status=404)

    async with browsing(browser, world.origin) as (context, problems):
        problems.expect("status of 404 .*/vendor/")
        await context.route("**/vendor/**", missing)
        page = DashboardPage(await context.new_page())
        await page.open()
        await expect(page.page.get_by_text("No charts").first).to_be_visible()
        await page.send("printf '\\033[31mred\\033[0m\\n'", agent_id=AGENT_ID)
        await expect(page.output).to_have_text("red\n")
        await expect(page.page.get_by_text("xterm.js is not installed")).to_be_visible()
        await expect(page.status).to_have_text("completed")
