"""Headless Chromium, and pages that collect their errors."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from playwright.async_api import Browser, BrowserContext, ConsoleMessage, Page, async_playwright

from tests.support.source_tree import PACKAGE
from tests.support.waiting import PATIENCE_SECONDS

CHROMIUM: Final = "/usr/bin/chromium"
ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
VENDORED: Final = (PACKAGE / "page" / "vendor" / "xterm.mjs").exists()
"""Whether npm was there when this checkout was set up. The page works either way."""

PATIENCE_MS: Final = round(PATIENCE_SECONDS * 1_000)


@asynccontextmanager
async def chromium() -> AsyncIterator[Browser]:
    """One browser; Playwright gives it a fresh profile and ends it."""
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(ARGUMENTS))
        try:
            yield browser
        finally:
            await browser.close()


class Problems:
    """What pages complained about: console errors, violations of the policy, uncaught exceptions, foreign requests."""

    def __init__(self, origin: str) -> None:
        self._origin = origin
        self._seen: list[str] = []
        self._expected = [] if VENDORED else [r"status of 404 .*/vendor/"]

    def watch(self, page: Page) -> None:
        """Note what goes wrong in a page from now on."""
        page.on("console", self._on_console)
        page.on("pageerror", lambda error: self._seen.append(f"uncaught: {error}"))
        page.on("request", lambda request: self._on_request(request.url))

    def expect(self, pattern: str) -> None:
        """Accept what matches: the browser itself complains of connections that fail, for one."""
        self._expected.append(pattern)

    def unexpected(self) -> list[str]:
        """Every complaint that was not expected."""
        return [seen for seen in self._seen if not any(re.search(pattern, seen) for pattern in self._expected)]

    def _on_console(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self._seen.append(f"{message.type}: {message.text} ({message.location.get('url', '')})")

    def _on_request(self, url: str) -> None:
        if not url.startswith((self._origin, "data:", "blob:")):
            self._seen.append(f"request to elsewhere: {url}")


@asynccontextmanager
async def browsing(browser: Browser, origin: str, **options: Any) -> AsyncIterator[tuple[BrowserContext, Problems]]:
    """A fresh profile for `origin`; at the end nothing unexpected may have gone wrong in its pages."""
    context = await browser.new_context(base_url=origin, **{"viewport": {"width": 1280, "height": 860}} | options)
    context.set_default_timeout(PATIENCE_MS)
    problems = Problems(origin)
    context.on("page", problems.watch)
    try:
        yield context, problems
    finally:
        await context.close()
    unexpected = problems.unexpected()
    assert not unexpected, "\n".join(unexpected)
