"""`distributor.testing` of an installed wheel: pytest finds the fixture by itself."""

from __future__ import annotations

from pathlib import Path

from tests.support.built_distribution import bare_checkout, build, installed, path_without_node
from tests.support.inner_pytest import WITHOUT_ASYNCIO, examples_of, run_pytest


def test_the_examples_of_the_page_pass_with_an_installed_wheel(tmp_path: Path) -> None:
    checkout = bare_checkout(tmp_path / "checkout")
    without_page(checkout)
    built = build("wheel", checkout, tmp_path / "dist", str(path_without_node(tmp_path / "bin")))
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    python = installed(wheel, tmp_path / "venv") / "python"
    assert "\n5 passed" in run_pytest(tmp_path, examples_of("Testing handlers"), *WITHOUT_ASYNCIO, python=python)


def without_page(checkout: Path) -> None:
    """Let the build do without the modules of the page, which need npm and are not used here."""
    script = checkout / "scripts" / "vendor_page.sh"
    script.write_text("#!/usr/bin/env bash\n", encoding="utf-8")
