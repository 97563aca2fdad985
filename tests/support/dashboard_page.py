"""A page object of the dashboard page: finds elements by role and label, as users do."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Final

from playwright.async_api import Locator, Page, expect

from tests.support.source_tree import ROOT

SCREENSHOTS: Final = ROOT / "build" / "screenshots"
PAIR_SECONDS: Final = 1.5
"""As in keyboard.js."""

_DRAWN: Final = "() => new Promise((drawn) => requestAnimationFrame(() => requestAnimationFrame(drawn)))"
"""A change is drawn in the next frame; by the one after that it is there."""


class DashboardPage:
    """One open page."""

    def __init__(self, page: Page) -> None:
        self.page = page

    async def open(self, path: str = "") -> None:
        """Go to a view by its address and wait until it is drawn and live.

        From view to view the document stays: without the wait, what is clicked may be of the view before.
        """
        await self.page.goto(f"/#/{path}")
        await self.page.evaluate(_DRAWN)
        await self.live()

    async def live(self) -> None:
        """Wait until the page is connected."""
        await expect(self.page.locator(".connection")).to_have_text("live")

    async def press_pair(self, first: str, second: str) -> None:
        """Press two keys that count together, and again where that took so long that they may not have.

        The second key alone must do nothing.
        """
        while True:
            began = time.monotonic()
            await self.page.keyboard.press(first)
            await self.page.keyboard.press(second)
            if time.monotonic() - began < PAIR_SECONDS:
                return

    async def send(self, command_line: str = "", *, agent_id: str, command_type: str = "EXEC", params: str = "") -> str:
        """Fill in the form and send it; returns the id of the command, whose view is open then."""
        await self.open(f"send?agent={agent_id}")
        await self.page.get_by_label("Type", exact=True).fill(command_type)
        if command_line:
            await self.page.get_by_label("Command line").fill(command_line)
        if params:
            await self.page.get_by_label("Params (JSON)", exact=True).fill(params)
        await self.page.get_by_role("button", name="Send", exact=True).click()
        return await self.shown_command()

    async def shown_command(self) -> str:
        """The id of the command whose view is open."""
        await expect(self.output).to_be_visible()
        return self.page.url.rpartition("/")[2]

    @property
    def output(self) -> Locator:
        """What a command printed."""
        return self.page.locator(".xterm-rows, .plain-terminal")

    @property
    def status(self) -> Locator:
        """The status of the command whose view is open."""
        return self.page.locator(".heading .status")

    @property
    def rows(self) -> Locator:
        """The rows of the table of commands."""
        return self.page.locator("tr[data-command]")

    def row(self, command_id: str) -> Locator:
        """The row of one command."""
        return self.page.locator(f'tr[data-command="{command_id}"]')

    def stage(self, name: str) -> Locator:
        """A step of the timeline."""
        return self.page.locator(f'[data-stage="{name}"]')

    def fact(self, name: str) -> Locator:
        """A value among the facts shown of the command whose view is open."""
        return self.page.locator(f'.facts dt:text-is("{name}") + dd')

    async def picture(self, name: str) -> Path:
        """Save what is seen as a picture."""
        SCREENSHOTS.mkdir(parents=True, exist_ok=True)
        path = SCREENSHOTS / f"{name}.png"
        await self.page.screenshot(path=path)
        return path
