"""The page in a real browser, against a real bridge, server, agent and Valkey."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from playwright.async_api import Browser, BrowserContext, expect

from tests.support.browser import PATIENCE_MS, Problems, browsing, chromium
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import PageWorld, page_world
from tests.support.running_server import RunningServer
from tests.support.shared_server import server, shared_server, shared_valkey_url

__all__ = ["browser", "page", "problems", "profile", "server", "shared_server", "shared_valkey_url", "world"]

expect.set_options(timeout=PATIENCE_MS)


@pytest.fixture(scope="session")
async def browser() -> AsyncIterator[Browser]:
    """One Chromium for the whole run."""
    async with chromium() as browser:
        yield browser


@pytest.fixture
async def world(server: RunningServer) -> AsyncIterator[PageWorld]:
    """A server with an agent, and a bridge that gives its page a token."""
    async with page_world(server) as world:
        yield world


@pytest.fixture
async def profile(browser: Browser, world: PageWorld) -> AsyncIterator[tuple[BrowserContext, Problems]]:
    """A fresh browser profile, and what goes wrong in its pages: at the end, nothing unexpected may have."""
    async with browsing(browser, world.origin) as profile:
        yield profile


@pytest.fixture
def problems(profile: tuple[BrowserContext, Problems]) -> Problems:
    """Where a test says which complaints of the browser it expects."""
    return profile[1]


@pytest.fixture
async def page(profile: tuple[BrowserContext, Problems]) -> DashboardPage:
    """One tab of that profile."""
    return DashboardPage(await profile[0].new_page())
