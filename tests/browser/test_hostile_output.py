"""What programs print, and what callers name things, stays what it is: text in its place."""

from __future__ import annotations

import re
from pathlib import Path

from playwright.async_api import BrowserContext, expect

from tests.support.browser import Problems
from tests.support.dashboard_page import DashboardPage
from tests.support.page_world import AGENT_ID, PageWorld

MIB = 1_048_576

ESCAPES = (
    "\x1b]52;c;aGFja2Vk\x07"  # the clipboard
    "\x1b]0;hacked\x07\x1b]2;hacked\x1b\\"  # the title
    "\x1b]8;;javascript:window.hacked=1\x1b\\a link\x1b]8;;\x1b\\"
    "\x1b]11;#ff0000\x07\x1b]4;0;#ff0000\x07"  # colours of the terminal
    "\x1b[8;1;1t\x1b[3;0;0t\x1b[21t"  # the window
    "\x1b[c\x1b[6n\x1bP$qm\x1b\\\x1b]10;?\x07"  # questions
    "\x1b[?1000h\x1b[?1006h\x1b[?2004h\x1b[?1004h"  # the mouse, pasting, the focus
)
MARKUP = "<script>window.hacked = 1</script><img src=x onerror='window.hacked=1'>"


async def test_it_cannot_leave_the_terminal(
    profile: tuple[BrowserContext, Problems], page: DashboardPage, world: PageWorld
) -> None:
    await profile[0].grant_permissions(["clipboard-read", "clipboard-write"])
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    await page.page.evaluate("navigator.clipboard.writeText('mine')")
    title = await page.page.title()
    world.script.print(f"{MARKUP}\n{ESCAPES}\nthe end\n")
    await expect(page.output).to_contain_text("the end")
    await expect(page.output).to_contain_text("<script>window.hacked = 1</script>")
    await expect(page.output).to_contain_text("a link")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    assert await page.page.evaluate("window.hacked") is None
    assert await page.page.evaluate("navigator.clipboard.readText()") == "mine"
    assert await page.page.title() == title
    assert await page.page.locator(".terminal :is(script, img, a)").count() == 0
    assert await page.page.locator(".enable-mouse-events").count() == 0


async def test_what_was_really_printed_can_be_seen_copied_and_downloaded(
    profile: tuple[BrowserContext, Problems], page: DashboardPage, world: PageWorld
) -> None:
    await profile[0].grant_permissions(["clipboard-read", "clipboard-write"])
    printed = b"one\r\n\x1b[31mred\x1b[0m \xff\\\xe2\x80\xae\n\x1b[2J"
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    world.script.print(printed)
    world.script.print("to stderr\n", "stderr")
    await expect(page.output).to_contain_text("to stderr")
    await page.page.get_by_role("button", name="Raw").click()
    raw = "one\\r\n\\x1b[31mred\\x1b[0m \\xff\\\\\\u202e\n\\x1b[2Jto stderr\n"
    text = "element => element.textContent"
    assert await page.page.get_by_label("Raw output").evaluate(text) == raw
    await page.picture("raw-output")
    await page.page.get_by_role("button", name="Copy").click()
    await expect(page.page.locator(".toast")).to_have_text(re.compile("Output copied"))
    assert await page.page.evaluate("navigator.clipboard.readText()") == raw
    world.script.print("more\n")
    await expect(page.page.get_by_label("Raw output")).to_contain_text("more")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    async with page.page.expect_download() as downloading:
        await page.page.get_by_role("button", name="Download").click()
    download = await downloading.value
    assert Path(await download.path()).read_bytes() == printed + b"to stderr\nmore\n"
    await page.page.get_by_role("button", name="Terminal").click()
    await expect(page.output).to_contain_text("more")
    await page.page.get_by_role("button", name="Copy").click()
    await expect(page.page.locator(".toast")).to_have_count(2)
    assert (await page.page.evaluate("navigator.clipboard.readText()")).splitlines()[-2:] == ["to stderr", "more"]


async def test_a_megabyte_without_a_newline_does_not_stop_the_page(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    world.script.print(b"x" * MIB)
    world.script.print("\nthe end\n")
    world.script.end()
    await expect(page.status).to_have_text("completed")
    await expect(page.output).to_contain_text("the end")
    await page.page.get_by_role("link", name="Agents").click()
    await expect(page.page.get_by_role("heading", name="Agents", exact=True)).to_be_visible()


async def test_bytes_that_are_no_text_are_shown(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT")
    world.script.print(b"before \xff\xfe\x80 after, \xe2\x82")
    world.script.print(b"\xac\n")
    await expect(page.output).to_contain_text("after, €")
    world.script.end()


async def test_names_and_reasons_are_text(page: DashboardPage, world: PageWorld) -> None:
    await page.send(agent_id=AGENT_ID, command_type="SCRIPT", params='{"<b>": "<img src=x onerror=alert(1)>"}')
    world.script.fail("hostile", MARKUP)
    await expect(page.status).to_have_text("failed")
    await expect(page.page.get_by_label("Result")).to_contain_text("<script>window.hacked = 1</script>")
    await expect(page.fact("Params")).to_contain_text("<img src=x onerror=alert(1)>")
    await page.open("commands")
    await expect(page.rows).to_contain_text("<script>window.hacked = 1</script>")
    assert await page.page.evaluate("window.hacked") is None
    assert await page.page.locator("main img").count() == 0
