"""What the page says while an agent, the server, Valkey or the bridge is away."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from playwright.async_api import Browser, Route, WebSocketRoute, expect

from tests.support.browser import Problems, browsing
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import AGENT_ID, PageWorld, page_world
from tests.support.running_server import running_server

SINCE: Final = "2026-11-30T01:19:58.000Z"
UP: Final = {"available": True, "since": "2026-11-30T00:00:00.000Z", "message": None}
DOWN: Final = {"available": False, "since": SINCE, "message": "connection refused"}
MOMENT: Final = r"(\d{4}-\d\d-\d\d )?\d\d:\d\d:\d\d UTC\S*"


class Status:
    """Between a page and its bridge: replaces what the bridge says of its parts."""

    def __init__(self) -> None:
        self._page: WebSocketRoute | None = None
        self._said: dict[str, Any] | None = None

    async def stand_between(self, page: DashboardPage) -> None:
        await page.page.route_web_socket("**/ws", self._connect)

    def _connect(self, to_page: WebSocketRoute) -> None:
        self._page = to_page

        def relay(text: str | bytes) -> None:
            if json.loads(text)["type"] == "bridge:status":
                self._said = json.loads(text)
            else:
                to_page.send(text)

        to_page.connect_to_server().on_message(relay)

    def say(self, **parts: Any) -> None:
        assert self._page is not None
        message = {"type": "bridge:status", "version": "1.0.0", "timestamp": SINCE, "server": UP, "valkey": UP}
        self._page.send(json.dumps(message | parts))


async def test_what_is_insecure_is_said_on_every_view(page: DashboardPage) -> None:
    status = Status()
    await status.stand_between(page)
    await page.page.goto("/")
    await expect(page.page.locator(".connection")).not_to_have_text("connecting")
    banner = page.page.locator(".banner.insecure")
    status.say(insecure=[])
    await page.live()
    await expect(banner).to_have_count(0)
    status.say(insecure=["plain_page", "plain_server", "of a later version"])
    await expect(banner.get_by_role("listitem")).to_have_text(
        [
            "This page and your token cross the network in plain text: anyone on the path can read and change them.",
            "The bridge calls its server over the network in plain text: "
            "anyone on the path can read and change the calls.",
        ]
    )
    await page.open("agents")
    await expect(banner).to_be_visible()
    await page.picture("insecure")


async def test_a_command_whose_agent_is_gone_claims_nothing(page: DashboardPage, world: PageWorld) -> None:
    async with world.server.agent("doomed") as agent:
        command_id = await world.server.queue("doomed", "PING")
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await page.open(f"commands/{command_id}")
        await expect(page.status).to_have_text("assigned")
        await expect(page.page.get_by_label("Timeline")).to_contain_text(re.compile(r"running for \d+ s"))
        await agent.vanish()
        await expect(page.status).to_have_text("agent away")
        await expect(page.page.locator(".notice")).to_contain_text(
            re.compile(f"Agent doomed has been away since {MOMENT}. The command may no longer be running")
        )
        timeline = page.page.get_by_label("Timeline")
        await expect(timeline).to_contain_text(re.compile(rf"had run for \d+ s at {MOMENT}"))
        await expect(timeline).not_to_contain_text("running for")
        await page.picture("command-agent-gone")
        # A page that is opened now says the same.
        await page.page.reload()
        await page.live()
        await expect(page.status).to_have_text("agent away")
        await page.open("commands")
        await expect(page.row(command_id).locator(".status")).to_have_text("agent away")
        await expect(page.row(command_id)).to_contain_text(re.compile(f"agent away since {MOMENT}"))
        await expect(page.row(command_id).locator('[data-label="took"]')).to_have_text(re.compile(r"^\d+ s\?$"))
        await page.open("agents")
        gone = page.page.locator('tr[data-agent="doomed"]')
        await expect(gone.locator(".status")).to_have_text("offline")
        await expect(gone.locator('[data-label="seen"]')).to_contain_text(re.compile(f"away since {MOMENT}"))
        await expect(gone.locator('[data-label="running"]')).to_have_text("1?")
        await expect(gone.locator('[data-label="slots"]')).to_have_text("–")
        await page.open()
        await expect(page.page.locator('.tile:has-text("Running") dd')).to_have_text("0 in 0 of 4 slots, 1 unknown")
        await page.picture("overview-agent-gone")


@pytest.mark.parametrize(
    ("part", "badge", "says"),
    [
        (
            "server",
            "server unavailable",
            "The server has been unavailable since .*: connection refused. Commands cannot be sent or cancelled",
        ),
        (
            "valkey",
            "Valkey unavailable",
            "Valkey has been unavailable since .*: connection refused. The page receives no updates",
        ),
    ],
)
async def test_what_is_away_is_said_in_every_view(
    page: DashboardPage, world: PageWorld, part: str, badge: str, says: str
) -> None:
    status = Status()
    await status.stand_between(page)
    command_id = await world.server.queue(AGENT_ID, "SCRIPT")
    await page.open(f"commands/{command_id}")
    await expect(page.status).to_have_text("assigned")
    status.say(**{part: DOWN})
    for path in (f"commands/{command_id}", "", "agents", "commands", f"send?agent={AGENT_ID}"):
        await page.page.goto(f"/#/{path}")
        await expect(page.page.locator(".connection")).to_have_text(badge)
        await expect(page.page.get_by_role("alert").first).to_contain_text(re.compile(says))
        await expect(page.page.locator("main")).to_have_class(re.compile("stale"))
    await page.picture(f"{part}-away")
    both = {"server": DOWN, "valkey": DOWN}
    status.say(**both)
    await expect(page.page.locator(".connection .status")).to_have_text(["Valkey unavailable", "server unavailable"])
    status.say()
    await page.live()
    await expect(page.page.get_by_role("alert")).to_have_count(0)
    world.script.end()


async def test_each_part_looks_different(page: DashboardPage) -> None:
    status = Status()
    await status.stand_between(page)
    await page.open()
    colours = []
    looks = {"live": {}, "server unavailable": {"server": DOWN}, "Valkey unavailable": {"valkey": DOWN}}
    for word, parts in looks.items():
        status.say(**parts)
        look = page.page.locator(".connection .status")
        await expect(look).to_have_text(word)
        colours.append(await look.evaluate("element => getComputedStyle(element).color"))
    assert len(set(colours)) == 3


async def test_a_page_opened_while_valkey_is_away_says_so(page: DashboardPage, problems: Problems) -> None:
    problems.expect("status of 503 .*/readyz")
    away = True

    def refuse(to_page: WebSocketRoute) -> None:
        if away:
            to_page.on_message(lambda _: to_page.close(code=1013, reason="Valkey cannot be reached"))
        else:
            to_page.connect_to_server()

    checks = {"valkey": "connection refused", "server": "ok"}

    async def not_ready(route: Route) -> None:
        await route.fulfill(status=503, json={"ready": False, "checks": checks})

    await page.page.route_web_socket("**/ws", refuse)
    await page.page.route("**/readyz", not_ready)
    await page.page.goto("/")
    await expect(page.page.locator(".connection")).to_have_text("Valkey unavailable")
    await expect(page.page.get_by_role("alert")).to_contain_text("Valkey is unavailable: connection refused")
    await expect(page.page.get_by_role("alert")).to_contain_text("No data yet")
    await page.picture("opened-while-valkey-away")
    away = False
    await page.live()


async def test_a_server_that_stops_and_returns(browser: Browser, valkey_url: str) -> None:
    async with (
        running_server(valkey_url) as server,
        page_world(server, with_agent=False, server_check_interval=0.05) as world,
        browsing(browser, world.origin) as (context, _),
    ):
        page = DashboardPage(await context.new_page())
        await page.open()
        address = server.address
        await server.process.stop()
        await expect(page.page.locator(".connection")).to_have_text("server unavailable")
        await expect(page.page.get_by_role("alert")).to_contain_text(
            re.compile(f"The server has been unavailable since {MOMENT}: ")
        )
        await page.page.reload()
        await expect(page.page.locator(".connection")).to_have_text("server unavailable")
        await page.page.goto("/#/send?agent=a")
        await expect(page.page.get_by_text("The server is unavailable: commands cannot be sent now.")).to_be_visible()
        async with running_server(valkey_url, listen=address):
            await page.live()


async def test_all_that_ended_is_counted(page: DashboardPage, world: PageWorld) -> None:
    ended = [await world.server.queue(AGENT_ID, "PING") for _ in range(60)]
    for command_id in ended:
        await world.server.result(command_id)
    await page.open()
    tile = page.page.locator('.tile:has-text("Completed") dd').first
    await expect(tile).to_have_text("60 or more")
    await expect(page.page.get_by_label("Throughput")).to_contain_text("60 completed, 0 not completed, or more")
    await page.picture("overview-or-more")
