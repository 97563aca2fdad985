"""The page and its bridge: signing in, going and coming back, and nothing lost or shown twice."""

from __future__ import annotations

import re
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from playwright.async_api import Browser, BrowserContext, Route, WebSocketRoute, expect

from tests.support.browser import Problems, browsing
from tests.support.dashboard_page import DashboardPage
from tests.support.launched_programs import launched
from tests.support.page_world import AGENT_ID, PageWorld, page_world
from tests.support.running_bridge import READ, TOKEN_KEY, WRITE, token_of
from tests.support.running_server import RunningServer, queue_request, running_server

# The last: the page asks a bridge that refused it what is away, and one that has just started may not be ready.
FAILED_CONNECTIONS = "ERR_CONNECTION_(REFUSED|RESET)|ERR_EMPTY_RESPONSE|WebSocket connection to|status of 503 .*/readyz"


async def sign_in(page: DashboardPage, token: str) -> None:
    dialog = page.page.get_by_role("dialog")
    await dialog.get_by_label("Token").fill(token)
    await dialog.get_by_role("button", name="Sign in").click()


async def shown_lines(page: DashboardPage) -> list[str]:
    """The lines of output that are in sight."""
    rows = page.page.locator(".xterm-rows > div")
    if await rows.count():
        texts = [text.replace("\xa0", " ").strip() for text in await rows.all_text_contents()]
    else:
        texts = (await page.output.inner_text()).splitlines()
    return [text for text in texts if text]


async def test_a_reload_in_the_middle_of_output_shows_each_line_once(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    for number in (1, 2):
        world.script.print(f"line {number}\n")
    await expect(page.output).to_contain_text("line 2")
    world.script.print("line 3, begun")
    await page.page.reload()
    await page.live()
    world.script.print(" and ended\n")
    await expect(page.output).to_contain_text("line 3, begun and ended")
    world.script.print("line 4\n")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    await expect(page.output).to_contain_text("line 4")
    assert await shown_lines(page) == ["line 1", "line 2", "line 3, begun and ended", "line 4"]


async def test_what_happened_while_the_bridge_was_away_is_caught_up(
    page: DashboardPage, world: PageWorld, problems: Problems
) -> None:
    problems.expect(FAILED_CONNECTIONS)
    await page.open()
    await world.stop_bridge()
    await expect(page.page.get_by_role("alert")).to_contain_text("Not connected: the bridge")
    await expect(page.page.locator("main")).to_have_class(re.compile("stale"))
    command_id = await world.server.queue(AGENT_ID, "PING")
    await world.server.result(command_id)
    await world.start_bridge()
    await page.live()
    await expect(page.row(command_id).locator(".status")).to_have_text("completed")
    await expect(page.page.get_by_role("alert")).to_have_count(0)


@pytest.mark.parametrize("stays", [True, False])
@pytest.mark.parametrize("refused", [True, False])
async def test_what_becomes_of_what_was_sent_while_the_bridge_was_away(
    page: DashboardPage, world: PageWorld, problems: Problems, stays: bool, refused: bool
) -> None:
    problems.expect(FAILED_CONNECTIONS)
    await page.open("send?agent=nobody")
    await page.page.get_by_label("Command line").fill("true")
    await page.page.get_by_label("fail at once" if refused else "queue it").check()
    await world.stop_bridge()
    await expect(page.page.get_by_role("alert")).to_contain_text("Not connected: the bridge")
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.page.get_by_text("Sends when the bridge is back.")).to_be_visible()
    await page.picture("sending-while-away")
    if not stays:
        await page.page.get_by_role("link", name="Agents").click()
        await expect(page.page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()
    await world.start_bridge()
    await page.live()
    if stays and refused:
        await expect(page.page.locator(".problem-box, .field .problem")).to_contain_text("nobody")
    elif stays:
        await expect(page.status).to_have_text("queued")
    else:
        told = "Not sent to nobody: " if refused else "Sent to nobody."
        await expect(page.page.locator(".toast")).to_contain_text(told)


async def test_how_long_a_command_runs_is_not_guessed_while_disconnected(
    page: DashboardPage, world: PageWorld, problems: Problems
) -> None:
    problems.expect(FAILED_CONNECTIONS)
    await page.page.clock.install()
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    running = page.page.get_by_label("Timeline")
    await page.page.clock.run_for(3_000)
    await expect(running).to_contain_text(re.compile(r"running for [3-9] s"))
    await world.stop_bridge()
    await expect(page.page.get_by_role("alert")).to_contain_text("Not connected: the bridge")
    await page.page.clock.run_for(60_000)
    await expect(page.page.get_by_role("alert")).to_contain_text("Data as of")
    await expect(running).to_contain_text(re.compile(r"had run for \d s at \d\d:\d\d:\d\d UTC"))
    await expect(running).not_to_contain_text("running for")
    world.script.end()
    await world.start_bridge()


async def test_a_bridge_that_falls_silent_is_told_and_left(page: DashboardPage, problems: Problems) -> None:
    problems.expect(FAILED_CONNECTIONS)
    silent = False
    connections: list[WebSocketRoute] = []

    def relay(to_page: WebSocketRoute) -> None:
        connections.append(to_page)
        to_bridge = to_page.connect_to_server()
        to_bridge.on_message(lambda message: None if silent else to_page.send(message))

    await page.page.route_web_socket("**/ws", relay)
    await page.page.clock.install()
    await page.open()
    silent = True
    await page.page.clock.run_for(20_000)
    await expect(page.page.locator(".connection")).to_have_text("bridge unreachable")
    await expect(page.page.get_by_role("alert")).to_contain_text("The bridge has not responded since")
    await page.page.clock.run_for(12_000)
    silent = False
    await page.page.clock.run_for(20_000)
    await page.live()
    assert len(connections) > 1


@asynccontextmanager
async def launched_bridge(world: PageWorld, port: int) -> AsyncIterator[Process]:
    """A bridge that is a process of its own."""
    options = [
        f"--listen=127.0.0.1:{port}",
        f"--server={world.server.address}",
        f"--valkey-url={world.server.process.valkey_url}",
    ]
    async with launched("distributor_server.py", "bridge", *options, ready=b"serving dashboards") as bridge:
        yield bridge


async def test_a_killed_bridge_is_found_again_and_output_goes_on(
    browser: Browser, world: PageWorld, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DISTRIBUTOR_BRIDGE_TOKEN_KEY", TOKEN_KEY)
    async with browsing(browser, f"http://127.0.0.1:{port}") as (context, problems):
        problems.expect(FAILED_CONNECTIONS)
        page = DashboardPage(await context.new_page())
        async with launched_bridge(world, port) as bridge:
            await page.page.goto("/")
            await sign_in(page, world.token(READ, WRITE))
            await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
            world.script.print("before\n")
            await expect(page.output).to_contain_text("before")
            bridge.kill()
            await expect(page.page.locator(".connection")).to_have_text("bridge unreachable")
        world.script.print("meanwhile\n")
        async with launched_bridge(world, port):
            await page.live()
            await expect(page.output).to_contain_text("meanwhile")
            world.script.print("after\n")
            world.script.end()
            await expect(page.status).to_have_text("completed")
            await expect(page.output).to_contain_text("after")
            assert await shown_lines(page) == ["before", "meanwhile", "after"]


async def test_without_a_token_the_page_asks_for_one(browser: Browser, server: RunningServer) -> None:
    async with (
        page_world(server, with_agent=False, dev=False) as world,
        browsing(browser, world.origin) as (context, problems),
    ):
        problems.expect("status of 401 .*/session")
        page = DashboardPage(await context.new_page())
        await page.page.goto("/")
        dialog = page.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Ask an administrator for one")
        await sign_in(page, "not a token")
        await expect(dialog).to_contain_text("the token is not a JWT")
        await expect(page.page.locator(".connection")).to_have_text("signed out")
        await sign_in(page, world.token(READ))
        await page.live()
        await expect(dialog).to_have_count(0)
        await page.page.get_by_role("link", name="Send…", exact=True).click()
        await expect(page.page.get_by_text("does not have the role operator")).to_be_visible()
        await expect(page.page.get_by_role("button", name="Send", exact=True)).to_be_disabled()
        await page.page.reload()
        await page.live()


async def test_an_api_that_fails_is_told_and_takes_nothing_else_along(
    page: DashboardPage, world: PageWorld, problems: Problems
) -> None:
    problems.expect("status of 503")
    answer = {"error": {"code": "UNAVAILABLE", "reason": "STORE_AWAY", "message": "Valkey is away"}}

    async def unavailable(route: Route) -> None:
        await route.fulfill(status=503, json=answer)

    await page.page.route("**/api/commands**", unavailable)
    await page.page.route("**/api/commands/**", unavailable)
    await page.open("commands")
    await expect(page.page.get_by_role("alert")).to_contain_text("Could not load the commands: Valkey is away")
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    world.script.print("still here\n")
    await expect(page.output).to_contain_text("still here")
    await expect(page.page.get_by_role("alert")).to_contain_text("Valkey is away")
    await page.page.unroute_all()
    await page.page.get_by_role("button", name="Try again").click()
    await expect(page.fact("Params")).to_have_text("none")
    await expect(page.page.get_by_role("alert")).to_have_count(0)
    await expect(page.output).to_contain_text("still here")
    world.script.end()


async def signed_in_page(context: BrowserContext, world: PageWorld, path: str = "", **token: Any) -> DashboardPage:
    """A page that was opened by a link, and signed in there."""
    page = DashboardPage(await context.new_page())
    await page.page.goto(f"/#/{path}")
    await sign_in(page, world.token(READ, WRITE, **token))
    await page.live()
    return page


async def test_all_tabs_sign_in_and_out_together(browser: Browser, server: RunningServer) -> None:
    async with (
        page_world(server, with_agent=False, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        first, second = DashboardPage(await context.new_page()), DashboardPage(await context.new_page())
        for page in (first, second):
            await page.page.goto("/")
            await expect(page.page.get_by_role("dialog")).to_be_visible()
        await sign_in(first, world.token(READ))
        for page in (first, second):
            await page.live()
            await expect(page.page.get_by_title("Signed in as")).to_have_text("alice")
        third = DashboardPage(await context.new_page())
        await third.open()
        await second.page.get_by_role("button", name="Sign out").click()
        for page in (first, second, third):
            await expect(page.page.locator(".connection")).to_have_text("signed out")
            await expect(page.page.get_by_title("Signed in as")).to_have_count(0)


async def test_a_link_works_after_signing_in(browser: Browser, server: RunningServer) -> None:
    async with (
        page_world(server, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        page = await signed_in_page(context, world, f"commands?agent={AGENT_ID}")
        assert page.page.url.endswith(f"/#/commands?agent={AGENT_ID}")
        await expect(page.page.get_by_role("heading", name="Commands", level=1)).to_be_visible()


async def test_no_script_can_read_the_token(browser: Browser, server: RunningServer) -> None:
    async with (
        page_world(server, with_agent=False, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        page = await signed_in_page(context, world)
        kept = "[document.cookie, ...Object.values(localStorage), ...Object.values(sessionStorage)].join()"
        assert "eyJ" not in str(await page.page.evaluate(kept))
        (cookie,) = await context.cookies()
        assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
        assert "eyJ" not in page.page.url


async def test_the_end_of_a_session_is_said_in_time_and_nothing_is_lost(
    browser: Browser, server: RunningServer
) -> None:
    async with (
        page_world(server, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        page = await signed_in_page(context, world, "commands", lifetime="5m")
        await expect(page.page.get_by_text("Your session ends in 5 minutes.")).to_be_visible()
        await page.picture("session-ends")
        await page.page.get_by_role("button", name="Sign in again").click()
        await sign_in(page, world.token(READ, WRITE))
        await expect(page.page.get_by_text("Your session ends")).to_have_count(0)
        await page.live()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
async def test_the_sign_in_as_a_picture(browser: Browser, server: RunningServer, scheme: Any, width: int) -> None:
    async with (
        page_world(server, dev=False) as world,
        browsing(browser, world.origin) as (context, problems),
    ):
        problems.expect("status of 401 .*/session")
        page = DashboardPage(await context.new_page())
        await page.page.emulate_media(color_scheme=scheme)
        await page.page.set_viewport_size({"width": width, "height": 800})
        await page.page.goto("/")
        await sign_in(page, "not a token")
        dialog = page.page.get_by_role("dialog")
        await expect(dialog).to_contain_text("Not signed in: the token is not a JWT.")
        await page.picture(f"sign-in-{scheme}-{width}")
        await sign_in(page, world.token(READ, WRITE))
        await page.live()
        await page.picture(f"signed-in-{scheme}-{width}")
        overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
        assert not await page.page.evaluate(overflow)


async def test_another_user_who_signs_in_sees_nothing_of_the_one_before(
    browser: Browser, server: RunningServer
) -> None:
    async with (
        page_world(server, dev=False) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        first = await signed_in_page(context, world, "commands")
        command_id = await server.queue(AGENT_ID, "SCRIPT")
        await expect(first.row(command_id)).to_be_visible()
        second = DashboardPage(await context.new_page())
        await second.open()
        await second.page.get_by_role("button", name="Sign out").click()
        await sign_in(second, world.token(READ, subject="bob", agents=["of-bob"]))
        for page in (first, second):
            await expect(page.page.get_by_title("Signed in as")).to_have_text("bob")
            await page.live()
        await expect(first.rows).to_have_count(0)


async def test_who_queued_a_command_is_shown(browser: Browser, shared_valkey_url: str) -> None:
    async with running_server(shared_valkey_url, token_key=TOKEN_KEY) as server:
        own = token_of(server.settings, "delegate", subject="bridge")
        async with (
            page_world(server, with_agent=False, dev=False, server_token=own) as world,
            browsing(browser, world.origin) as (context, _),
        ):
            metadata = [("authorization", f"Bearer {world.token(WRITE, subject='rosa')}")]
            answer = await server.commands.QueueCommand(queue_request("away", "PRINT"), metadata=metadata)
            command = f"commands/{answer.command.command_id}"
            page = DashboardPage(await context.new_page())
            await page.page.goto("/#/commands")
            await sign_in(page, world.token(READ))
            row = page.row(answer.command.command_id)
            await expect(row).to_contain_text("rosa")
            await page.picture("commands-requested-by")
            await page.page.goto(f"/#/{command}")
            await expect(page.fact("Requested by")).to_have_text("rosa from 127.0.0.1")
            await page.picture("command-requested-by")
            await page.page.set_viewport_size({"width": 390, "height": 800})
            await page.page.goto("/#/commands")
            await expect(row).to_contain_text("rosa")
            await page.picture("commands-requested-by-phone")
            overflow = "document.documentElement.scrollWidth > document.documentElement.clientWidth"
            assert not await page.page.evaluate(overflow)
