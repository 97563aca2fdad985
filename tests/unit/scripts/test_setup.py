"""scripts/setup.sh on a machine made of stubs: nothing is installed, what would be is written down."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.source_tree import ROOT

TOOLS: Final = ("bash", "cat", "cut", "dirname", "env", "mkdir", "rm", "sha256sum", "touch")

PYTHON: Final = """\
echo "python $*" >>"$LOG"
case "$*" in
  *version_info*) exit "${TOO_OLD:-0}" ;;
  *"import ensurepip"*) [ -e "$HERE/has-venv" ] ;;
  --version) echo "Python 3.11.2" ;;
  "-m venv .venv") mkdir -p .venv/bin; cp "$HERE/bin/python3" .venv/bin/python ;;
  *"import pip"*) : ;;
  *"pip install"*) : ;;
esac
"""
APT_GET: Final = 'echo "apt-get $*" >>"$LOG"\ncase "$*" in *install*python3-venv*) touch "$HERE/has-venv" ;; esac\n'


class Machine:
    """A checkout, a PATH with nothing but stubs, and what was done with them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.checkout = folder / "checkout"
        self.bin = folder / "bin"
        self.log = folder / "log"
        self.environment = {"PATH": str(self.bin), "LOG": str(self.log), "HERE": str(folder)}
        (self.checkout / "scripts").mkdir(parents=True)
        self.bin.mkdir()
        self.log.touch()
        shutil.copy(ROOT / "scripts" / "setup.sh", self.checkout / "scripts")
        # Tested in test_vendor_page.py.
        (self.checkout / "scripts" / "vendor_page.sh").symlink_to(shutil.which("true") or "true")
        for name in ("pyproject.toml", "constraints.txt"):
            (self.checkout / name).write_text("first\n")
        for tool in (*TOOLS, "cp"):
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)
        self.stub("python3", PYTHON)
        self.stub("id", "echo 0\n")

    def stub(self, name: str, script: str) -> None:
        """Put a program on the PATH."""
        path = self.bin / name
        path.write_text(f"#!{shutil.which('bash')}\n{script}")
        path.chmod(0o755)

    def has_venv(self) -> None:
        """Give Python what Debian leaves out."""
        (self.folder / "has-venv").touch()

    def setup(self, what: str = "run", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        return subprocess.run(
            [str(self.checkout / "scripts" / "setup.sh"), what],
            env=self.environment | environment,
            capture_output=True,
            text=True,
            timeout=20,
        )

    def done(self, word: str) -> list[str]:
        """What was done that has `word` in it, and forget all of it."""
        lines = [line for line in self.log.read_text().splitlines() if word in line]
        self.log.write_text("")
        return lines


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def test_it_installs_once_and_again_when_the_project_asks_for_something_else(machine: Machine) -> None:
    machine.has_venv()
    assert machine.setup().returncode == 0
    assert machine.done("pip install")[0].endswith("--constraint constraints.txt --editable .[embedded,speed]")
    assert machine.setup().stdout == ""
    assert machine.done("") == []
    (machine.checkout / "constraints.txt").write_text("second\n")
    assert machine.setup().returncode == 0
    assert len(machine.done("pip install")) == 1


def test_development_includes_all_and_is_not_undone(machine: Machine) -> None:
    machine.has_venv()
    machine.setup("run")
    machine.done("")
    machine.setup("dev")
    assert machine.done("pip install")[0].endswith(".[embedded,speed,dev]")
    machine.setup("run")
    assert machine.done("") == []


def test_what_debian_leaves_out_is_installed_for_root(machine: Machine) -> None:
    machine.stub("apt-get", APT_GET)
    assert machine.setup().returncode == 0
    assert any("install --no-install-recommends python3-venv" in line for line in machine.done("apt-get"))


@pytest.mark.parametrize("user", ["0", "1000"], ids=["root without apt-get", "another user"])
def test_where_it_may_not_install_it_names_the_package(machine: Machine, user: str) -> None:
    machine.stub("id", f"echo {user}\n")
    if user != "0":
        machine.stub("apt-get", APT_GET)
    ended = machine.setup()
    assert ended.returncode == 1
    assert ended.stderr.endswith("cannot create virtual environments; on Debian: apt-get install python3-venv\n")
    assert machine.done("apt-get") == []


def test_without_a_python_that_is_new_enough(machine: Machine) -> None:
    ended = machine.setup(TOO_OLD="1")
    assert ended.returncode == 1
    assert ended.stderr.startswith("setup: Python 3.11 or newer is needed")
    assert not os.path.exists(machine.checkout / ".venv")


def test_a_failed_install_is_tried_again(machine: Machine) -> None:
    machine.has_venv()
    machine.stub("python3", PYTHON.replace('*"pip install"*) : ;;', '*"pip install"*) exit 1 ;;'))
    assert machine.setup().returncode == 1
    machine.stub("python3", PYTHON)
    shutil.copy(machine.bin / "python3", machine.checkout / ".venv" / "bin" / "python")
    assert machine.setup().returncode == 0
    assert len(machine.done("pip install")) == 2
