"""Names, params, reasons and data of others, in every view: shown exactly, in their place, changing nothing around."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from playwright.async_api import Route, WebSocketRoute, expect

from tests.support.browser import Problems
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import AGENT_ID, PageWorld

HOSTILE: Final = "\u202eevil\u2066\x1b[31m\n\u200b<b>\u05d0\ufeff\x9b"
SPELT: Final = r"\u202eevil\u2066\x1b[31m\n\u200b<b>" + "\u05d0" + r"\ufeff\x9b"
FOREIGN: Final = {"agentId", "type", "paramsSummary", "version", "agentVersion", "message", "problem"}
"""Fields whose texts are replaced. The bridge lets nothing so bad pass; the page does not rely on it."""

WHOLE: Final = {"types", "labels", "data", "params"}
"""Fields in which every text is."""

FAULTS: Final = r"""
() => {
  const unseen = /[\0-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]/;
  const faults = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_ALL);
  let evil = 0;
  for (let node = walker.currentNode; node; node = walker.nextNode()) {
    if (node.nodeType === Node.TEXT_NODE) {
      const home = node.parentElement.closest("bdi, .json, .command-line");
      evil += node.data.includes("evil");
      if (unseen.test(node.data)) faults.push(`unseen: ${JSON.stringify(node.data)}`);
      if (node.data.includes("evil") && !home) faults.push(`not isolated: ${node.parentElement.outerHTML}`);
    } else if (node.nodeType === Node.ELEMENT_NODE) {
      const shown = ["title", "placeholder", "aria-label"].map((name) => node.getAttribute(name) ?? "");
      const typed = node.matches("input, textarea, option") ? node.value : "";
      for (const text of [...shown, typed]) if (unseen.test(text)) faults.push(`unseen: ${node.outerHTML}`);
    }
  }
  return { faults, evil };
}
"""


def hostile(value: Any, name: str = "", *, inside: bool = False, envelope: bool = False) -> Any:
    """`value` with HOSTILE after every text that others choose."""
    if isinstance(value, dict):
        every = inside or name in WHOLE
        changed = {
            key: item if envelope and isinstance(item, str) else hostile(item, key, inside=every)
            for key, item in value.items()
        }
        return {key if key == "argv" or not every else f"{key}{HOSTILE}": item for key, item in changed.items()}
    if isinstance(value, list):
        return [hostile(item, name, inside=inside or name in WHOLE) for item in value]
    return f"{value}{HOSTILE}" if isinstance(value, str) and (inside or name in FOREIGN) else value


@pytest.fixture
async def hostile_page(page: DashboardPage) -> DashboardPage:
    """A page whose bridge sends only hostile texts."""

    def relay(to_page: WebSocketRoute) -> None:
        to_bridge = to_page.connect_to_server()
        to_bridge.on_message(lambda text: to_page.send(json.dumps(hostile(json.loads(text), envelope=True))))

    async def answer(route: Route) -> None:
        response = await route.fetch()
        await route.fulfill(response=response, json=hostile(await response.json()))

    await page.page.route_web_socket("**/ws", relay)
    await page.page.route("**/api/**", answer)
    return page


async def looked_at(page: DashboardPage) -> None:
    """Nothing in sight is unseen or out of its place, and there was something to look at."""
    seen = await page.page.evaluate(FAULTS)
    assert not seen["faults"], "\n".join(seen["faults"])
    assert seen["evil"], "the view shows nothing hostile"


async def test_every_view_shows_hostile_texts_in_their_place(hostile_page: DashboardPage, world: PageWorld) -> None:
    page = hostile_page
    ended = await world.server.queue(AGENT_ID, "SCRIPT", params={"name": "value", "nested": [{"a": "b"}]})
    world.script.fail("broken", "reason")
    await world.server.result(ended)
    waiting = await world.server.queue("away", "EXEC", params={"argv": ["echo", "word"]})
    for path in ("", "agents", "commands"):
        await page.open(path)
        await expect(page.page.locator("tbody tr").first).to_contain_text(SPELT)
        await looked_at(page)
    await page.picture("hostile-commands")
    await page.open(f"commands/{ended}")
    await expect(page.page.get_by_label("Result")).to_contain_text("reason" + SPELT)
    await expect(page.fact("Params")).to_contain_text(r'"name\u202eevil\u2066\u001b[31m\n\u200b<b>')
    await looked_at(page)
    await page.picture("hostile-command")
    await page.open(f"commands/{waiting}")
    await expect(page.fact("Command line")).to_contain_text("'word" + SPELT)
    await looked_at(page)
    await page.open("commands/nonsense%E2%80%AEevil")
    await expect(page.page.get_by_text("Command not found")).to_be_visible()
    await looked_at(page)


async def test_the_form_shows_hostile_texts_in_their_place(hostile_page: DashboardPage, world: PageWorld) -> None:
    page = hostile_page
    waiting = await world.server.queue("away", "EXEC", params={"argv": ["echo", "word"], "cwd": "/"})
    await page.open(f"send?from={waiting}")
    area = page.page.get_by_label("Params (JSON)", exact=True)
    await expect(area).to_have_value(re.compile(re.escape(r"word\u202eevil")))
    await looked_at(page)
    await page.page.get_by_role("button", name="Send", exact=True).click()
    await expect(page.page.locator("#send-agentId-problem")).to_contain_text(r"away\u202eevil")
    await looked_at(page)


async def test_refusals_show_hostile_texts_in_their_place(
    hostile_page: DashboardPage, world: PageWorld, problems: Problems
) -> None:
    page = hostile_page
    problems.expect("status of (400|503)")
    await page.open("commands?agent=a%E2%80%AEevil&type=t%E2%80%AEevil")
    await expect(page.page.get_by_role("alert")).to_contain_text(r"a\u202eevil")
    await looked_at(page)
    error = {"error": {"code": "UNAVAILABLE", "reason": "STORE_AWAY", "message": f"away{HOSTILE}"}}
    await page.page.route("**/api/commands**", lambda route: route.fulfill(status=503, json=error))
    await page.open("commands")
    await expect(page.page.get_by_role("alert")).to_contain_text("away" + SPELT)
    await looked_at(page)
