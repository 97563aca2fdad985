"""The page's modules, one by one, in the browser that runs them: modules/*.test.js."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from playwright.async_api import Browser, BrowserContext, Route

from tests.support.browser import browsing
from tests.support.source_tree import PACKAGE

ORIGIN: Final = "http://page.test"
MODULES: Final = Path(__file__).parent / "modules"
FILES: Final = sorted(path.name for path in MODULES.glob("*.test.js"))

RUN: Final = """
async (file) => {
  const { tests } = await import(file);
  const failed = [];
  for (const [name, test] of Object.entries(tests)) {
    try { await test(); } catch (error) { failed.push(`${name}: ${error.stack}`); }
  }
  return { failed, count: Object.keys(tests).length };
}
"""


async def from_disk(route: Route) -> None:
    """Serve the tests under /modules/ and the page's own files elsewhere."""
    path = route.request.url.removeprefix(ORIGIN)
    if path == "/":
        await route.fulfill(content_type="text/html", body="<!doctype html><title>modules</title>")
    elif path.startswith("/modules/"):
        await route.fulfill(path=MODULES / path.removeprefix("/modules/"), content_type="text/javascript")
    else:
        file = PACKAGE / "page" / path.lstrip("/")
        await route.fulfill(path=file, content_type="text/css" if file.suffix == ".css" else "text/javascript")


@pytest.fixture(scope="module")
async def modules(browser: Browser) -> AsyncIterator[BrowserContext]:
    """One profile for all module tests; each file runs in a tab of its own."""
    async with browsing(browser, ORIGIN) as (context, _):
        await context.route(f"{ORIGIN}/**", from_disk)
        yield context


@pytest.mark.parametrize("file", FILES)
async def test_modules(modules: BrowserContext, file: str) -> None:
    page = await modules.new_page()
    await page.goto("/")
    outcome = await page.evaluate(RUN, f"/modules/{file}")
    await page.close()
    assert outcome["count"] > 0
    assert not outcome["failed"], "\n\n".join(outcome["failed"])
