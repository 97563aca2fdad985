"""scripts/setup_node_agent.sh with a Node and an npm that are stubs."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.source_tree import ROOT

TOOLS: Final = ("bash", "cat", "cp", "cut", "dirname", "env", "flock", "id", "mkdir", "rm", "sha256sum", "timeout")
NODE: Final = 'case "$1" in --version) echo v$VERSION ;; *) [ "$VERSION" -ge 20 ] ;; esac'
NPM: Final = (
    'echo "npm $*" >>"$HERE/log"; [ ! -e "$HERE/npm-fails" ] || { echo "npm: no network"; exit 1; }; mkdir node_modules'
)


class Checkout:
    """The script, the agent's package files, and a PATH without apt-get."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.bin = folder / "bin"
        agent = folder / "examples" / "node-agent"
        for made in (agent, self.bin, folder / "scripts"):
            made.mkdir(parents=True)
        shutil.copy(ROOT / "scripts" / "setup_node_agent.sh", folder / "scripts")
        for name in ("package.json", "package-lock.json"):
            shutil.copy(ROOT / "examples" / "node-agent" / name, agent)
        for tool in TOOLS:
            (self.bin / tool).symlink_to(shutil.which(tool) or tool)

    def has(self, name: str, script: str) -> None:
        """Put a stub on the PATH."""
        stub = self.bin / name
        stub.write_text(f"#!{shutil.which('bash')}\n{script}\n")
        stub.chmod(0o755)

    def set_up(self, version: int = 20) -> subprocess.CompletedProcess[str]:
        """Run the script."""
        environment = {"PATH": str(self.bin), "HERE": str(self.folder), "VERSION": str(version)}
        script = str(self.folder / "scripts" / "setup_node_agent.sh")
        return subprocess.run([script], env=environment, capture_output=True, text=True, timeout=20)

    @property
    def calls(self) -> list[str]:
        """What npm was called with."""
        log = self.folder / "log"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


def test_packages_are_installed_once_as_locked(checkout: Checkout) -> None:
    checkout.has("node", NODE)
    checkout.has("npm", NPM)
    for _ in range(2):
        ended = checkout.set_up()
        assert ended.returncode == 0, ended.stderr
    assert checkout.calls == ["npm ci --ignore-scripts --no-audit --no-fund --loglevel=error"]
    assert (checkout.folder / "build" / "node-agent" / "node_modules").is_dir()


def test_without_npm_it_fails_and_names_the_remedy(checkout: Checkout) -> None:
    ended = checkout.set_up()
    assert ended.returncode == 1
    assert "the conformance tests need Node 20 and npm; on Debian: apt-get install nodejs npm" in ended.stderr


def test_an_old_node_is_named(checkout: Checkout) -> None:
    checkout.has("node", NODE)
    checkout.has("npm", NPM)
    ended = checkout.set_up(version=18)
    assert ended.returncode == 1
    assert ended.stderr == "setup: the conformance tests need Node 20 or newer, not v18\n"


def test_the_reason_of_npm_is_shown_and_the_next_run_tries_again(checkout: Checkout) -> None:
    checkout.has("node", NODE)
    checkout.has("npm", NPM)
    (checkout.folder / "npm-fails").touch()
    ended = checkout.set_up()
    assert ended.returncode == 1
    assert ended.stderr == "setup: npm failed: npm: no network\n"
    (checkout.folder / "npm-fails").unlink()
    assert checkout.set_up().returncode == 0
