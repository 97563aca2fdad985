"""What `pip install` of a checkout, an sdist or a wheel gives: everything that runs, and nothing else."""

from __future__ import annotations

import os
import zipfile
from pathlib import Path

import pytest

from tests.support.browser import VENDORED
from tests.support.built_distribution import bare_checkout, build, path_without_node, unpacked
from tests.support.source_tree import PACKAGE, ROOT

VENDORED_FILES = {
    f"distributor/page/vendor/{name}"
    for name in (
        *("xterm.mjs", "xterm.css", "addon-fit.mjs", "uPlot.esm.js", "uPlot.min.css"),
        *("LICENSE.xterm", "LICENSE.addon-fit", "LICENSE.uplot"),
    )
}


def files_of_the_package() -> set[str]:
    """What a wheel has to contain of this checkout."""
    left_out = {"package.json", "package-lock.json"}
    return {
        str(path.relative_to(ROOT))
        for path in PACKAGE.rglob("*")
        if path.is_file() and not {"__pycache__", "vendor"} & set(path.parts) and path.name not in left_out
    }


@pytest.mark.parametrize("npm", ["missing", "failing"])
@pytest.mark.parametrize("target", ["sdist", "wheel"])
def test_a_build_that_cannot_vendor_the_page_fails_with_the_reason(tmp_path: Path, target: str, npm: str) -> None:
    path = path_without_node(tmp_path / "bin")
    for tool in ("cp", "mkdir"):
        (path / tool).symlink_to(f"/bin/{tool}")
    if npm == "failing":
        (path / "npm").write_text("#!/bin/sh\necho npm: no network\nexit 1\n")
        (path / "npm").chmod(0o755)
    ended = build(target, bare_checkout(tmp_path / "checkout"), tmp_path / "dist", str(path))
    assert ended.returncode == 1
    assert "Traceback" not in ended.stderr
    reason, last = ended.stderr.splitlines()[-2:]
    assert reason.startswith(f"vendor_page: npm {'is missing' if npm == 'missing' else 'failed'}, ")
    assert last == "build: stopped, because the dashboard page would be incomplete"
    assert not list((tmp_path / "dist").glob("*"))


def test_an_sdist_becomes_a_whole_wheel_without_node(tmp_path: Path) -> None:
    built = build("sdist", ROOT, tmp_path / "dist", os.environ["PATH"])
    if not VENDORED:
        assert "vendor_page: npm is missing" in built.stderr
        return
    assert built.returncode == 0, built.stderr
    (sdist,) = (tmp_path / "dist").glob("*.tar.gz")
    source = unpacked(sdist, tmp_path / "source")
    assert not any((source / name).exists() for name in ("tests", "bench", ".venv"))

    built = build("wheel", source, tmp_path / "dist", str(path_without_node(tmp_path / "bin")))
    assert built.returncode == 0, built.stderr
    (wheel,) = (tmp_path / "dist").glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = {name for name in archive.namelist() if not name.startswith("command_distributor-")}
        metadata = set(archive.namelist()) - files
    assert files == files_of_the_package() | VENDORED_FILES
    assert any(name.endswith("licenses/LICENSE") for name in metadata)
    assert any(name.endswith("entry_points.txt") for name in metadata)
