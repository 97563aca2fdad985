"""Runs pytest in a process of its own, as an author of handlers does."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Final

from tests.support.source_tree import ROOT

QUIET: Final = ("-q", "-p", "no:cacheprovider", "-p", "no:xdist")
WITHOUT_ASYNCIO: Final = ("-p", "no:asyncio")


def examples_of(section: str) -> str:
    """The code of a section of docs/agents.md, in order."""
    page = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
    text = page.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL))


def run_pytest(folder: Path, source: str, *options: str, python: Path | str = sys.executable) -> str:
    """Run pytest on one file with `source`; returns its output, which ends with the counts. Fails if a test does."""
    (folder / "test_handlers.py").write_text(source, encoding="utf-8")
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "PYTHON"))}
    # As pytest would say, were it not for the environment of the developer.
    environment["DISTRIBUTOR_VALKEY_URL"] = "valkey://127.0.0.1:1/0"
    command = [python, "-W", "error", "-m", "pytest", *QUIET, *options, f"--rootdir={folder}", "test_handlers.py"]
    ended = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=100)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout
