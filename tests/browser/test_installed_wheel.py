"""The page of an installed wheel, on a host without Node."""

from __future__ import annotations

import os
from pathlib import Path

from playwright.async_api import Browser, expect

from tests.support.browser import VENDORED, browsing
from tests.support.built_distribution import build, installed, path_without_node, unpacked
from tests.support.dashboard_page import DashboardPage
from tests.support.launched_server import launched_program, somewhere
from tests.support.source_tree import ROOT


async def test_an_installed_wheel_serves_a_page_with_charts_and_terminal(browser: Browser, tmp_path: Path) -> None:
    built = build("sdist", ROOT, tmp_path / "dist", os.environ["PATH"])
    if not VENDORED:
        assert "vendor_page: npm is missing" in built.stderr
        return
    path = str(path_without_node(tmp_path / "bin"))
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    build("wheel", unpacked(sdist, tmp_path / "source"), tmp_path / "dist", path)
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    programs = installed(wheel, tmp_path / "venv")
    environment = {"PATH": path, "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    arguments = ["dev", *somewhere(tmp_path / "data"), "--bridge-listen=127.0.0.1:0"]
    async with launched_program(programs / "distributor", *arguments, cwd=tmp_path, environment=environment) as dev:
        origin = (await dev.line("  page ")).split()[1].rstrip("/")
        async with browsing(browser, origin) as (context, _):
            page = DashboardPage(await context.new_page())
            await page.open()
            await expect(page.page.locator(".uplot canvas").first).to_be_visible()
            await page.send("sh -c 'echo from the wheel'", agent_id="dev-agent")
            await expect(page.page.locator(".xterm-rows")).to_contain_text("from the wheel")
