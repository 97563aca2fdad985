"""Builds the sdist and the wheel, and installs a wheel into an empty environment."""

from __future__ import annotations

import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path
from typing import Final

from tests.support.source_tree import ROOT

_TOOLS: Final = ("bash", "cat", "cut", "dirname", "env", "mktemp", "rm", "sh", "sha256sum", "uname")
_SOURCES: Final = ("CHANGELOG.md", "LICENSE", "README.md", "distributor", "hatch_build.py", "pyproject.toml", "scripts")


def path_without_node(folder: Path) -> Path:
    """A folder for PATH with what our scripts use, and no Node."""
    folder.mkdir()
    for tool in _TOOLS:
        (folder / tool).symlink_to(shutil.which(tool) or tool)
    return folder


def bare_checkout(folder: Path) -> Path:
    """A copy of what a build reads, as a fresh clone has it: nothing vendored."""
    folder.mkdir()
    for name in _SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("vendor", "__pycache__"))
        else:
            shutil.copy(ROOT / name, folder)
    return folder


def build(target: str, source: Path, output: Path, path: str) -> subprocess.CompletedProcess[str]:
    """Build "sdist" or "wheel" from a folder into another, by the backend that pyproject.toml names."""
    command = [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", str(output)]
    return subprocess.run(command, cwd=source, env={"PATH": path}, capture_output=True, text=True, timeout=120)


def unpacked(sdist: Path, folder: Path) -> Path:
    """The folder inside an sdist, unpacked below `folder`."""
    # Not by tarfile: its filters came with Python 3.11.4, and later versions warn without one.
    folder.mkdir(exist_ok=True)
    subprocess.run(["tar", "-xzf", str(sdist), "-C", str(folder)], check=True, timeout=60)
    (content,) = folder.iterdir()
    return content


def installed(wheel: Path, folder: Path) -> Path:
    """The folder with the programs of a new environment that has the wheel.

    Dependencies come from the environment of the tests, by a path that is searched last; this checkout does not.
    """
    venv.create(folder)
    python = folder / "bin" / "python"
    options = ["--quiet", "--no-deps", "--no-index", "--no-compile", "--disable-pip-version-check"]
    command = [sys.executable, "-m", "pip", "--python", str(python), "install", *options, str(wheel)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    site_packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    (site_packages / "dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n", encoding="utf-8")
    where = subprocess.check_output([python, "-I", "-c", "import distributor; print(distributor.__file__)"], text=True)
    assert where.startswith(str(site_packages)), where
    return python.parent
