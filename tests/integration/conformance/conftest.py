"""The agent in Node, with its packages."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.support.conformance import node_program
from tests.support.source_tree import ROOT

PACKAGES: Final = ROOT / "build" / "node-agent" / "node_modules"


@pytest.fixture(scope="session")
def node_packages() -> Path:
    """The folder with the packages, installed if `make node-agent` has not done it."""
    installed = subprocess.run([ROOT / "scripts" / "setup_node_agent.sh"], capture_output=True, text=True, timeout=400)
    assert installed.returncode == 0, installed.stderr
    return PACKAGES


@pytest.fixture(scope="session")
def node_agent(node_packages: Path) -> tuple[str, ...]:
    """The command line of the agent in Node."""
    return node_program(node_packages, ROOT / "examples" / "node-agent")
