"""What the page says is insecure about a server, while that is replaced by others."""

from __future__ import annotations

from typing import Any, Final

import pytest
from playwright.async_api import Browser, expect

from distributor.identity.caller import CallerKind
from tests.support.browser import browsing
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import page_world
from tests.support.replaced_server import replaced_server
from tests.support.running_bridge import TOKEN_KEY, bridge_settings, token_of

EVERYWHERE: Final = "0.0.0.0"
AUTHENTICATED: Final[dict[str, Any]] = {"token_key": TOKEN_KEY}
UNAUTHENTICATED: Final = (
    "The server does not authenticate its callers: anyone who can reach it can run commands on every agent."
)
PLAIN_TEXT: Final = (
    "The server accepts plain text from other hosts: anyone on the path can read and change commands and results."
)
PLAIN_HTTP: Final = "The server sends its metrics to other hosts in plain text: anyone on the path can read them."
DESKTOP: Final = {"width": 1280, "height": 860}
PHONE: Final = {"width": 390, "height": 844}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("viewport", [DESKTOP, PHONE], ids=["desktop", "phone"])
async def test_the_page_says_live_what_is_insecure_about_the_server(
    browser: Browser, valkey_url: str, viewport: dict[str, int], scheme: str
) -> None:
    async with replaced_server(valkey_url) as replaced:
        server = await replaced.serve()
        delegate = token_of(bridge_settings(server), "delegate", subject="bridge", kind=CallerKind.SERVICE)
        async with (
            page_world(server, with_agent=False, server_check_interval=0.1, server_token=delegate) as world,
            browsing(browser, world.origin, viewport=viewport, color_scheme=scheme) as (context, _),
        ):
            page = DashboardPage(await context.new_page())
            await page.open()
            said = page.page.locator(".banner.insecure").get_by_role("listitem")
            await expect(said).to_have_text([UNAUTHENTICATED])
            await replaced.serve(**AUTHENTICATED)
            await page.live()
            await expect(said).to_have_count(0)
            await expect(page.page.locator(".banner")).to_have_count(0)
            await replaced.serve(EVERYWHERE, insecure=True, http_listen=f"{EVERYWHERE}:0")
            await expect(said).to_have_text([UNAUTHENTICATED, PLAIN_TEXT, PLAIN_HTTP])
            await page.live()
            root = page.page.locator("html")
            assert await root.evaluate("root => root.scrollWidth <= root.clientWidth"), "the page scrolls sideways"
            await page.picture(f"insecure-server-{viewport['width']}-{scheme}")
