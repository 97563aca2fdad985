"""Where scripts/setup_peers.sh installs the peers."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from bench.child import ROOT

FOLDER_VARIABLE = "BENCH_PEERS"
"""Environment variable that names another folder than build/peers."""
REMEDY = "run scripts/setup_peers.sh"


class Installation:
    """The folder of the installed peers."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = (folder or Path(os.environ.get(FOLDER_VARIABLE) or ROOT / "build" / "peers")).absolute()

    @property
    def python(self) -> Path | None:
        """The Python that has the clients of Python peers, None if not installed."""
        return self._folder / "venv" / "bin" / "python" if self._is_complete("venv") else None

    @property
    def node_modules(self) -> Path | None:
        """The npm packages, None if not installed."""
        return self._folder / "bullmq" / "node_modules" if self._is_complete("bullmq") else None

    @property
    def node(self) -> str | None:
        """The program node, None without one."""
        return shutil.which("node")

    @property
    def nats_server(self) -> str | None:
        """The program nats-server, None without one."""
        own = self._folder / "nats" / "usr" / "sbin"
        # Debian installs it in a folder that may not be on PATH of a user other than root.
        return shutil.which("nats-server", path=os.pathsep.join((str(own), os.environ.get("PATH", ""), "/usr/sbin")))

    def python_version(self, package: str) -> str:
        """Return the version of a Python package of the peers; `package` as in requirements.txt."""
        folder = package.replace("-", "_")
        found = sorted((self._folder / "venv").glob(f"lib/python*/site-packages/{folder}-*.dist-info"))
        return found[0].name.removeprefix(f"{folder}-").removesuffix(".dist-info") if found else "unknown"

    def npm_version(self, package: str) -> str:
        """Return the version of an npm package of the peers."""
        manifest = self._folder / "bullmq" / "node_modules" / package / "package.json"
        return str(json.loads(manifest.read_text(encoding="utf-8"))["version"]) if manifest.exists() else "unknown"

    def nats_server_version(self) -> str:
        """Return the version of nats-server."""
        answer = subprocess.run([self.nats_server or "false", "--version"], capture_output=True, text=True, timeout=30)
        return answer.stdout.rpartition(" v")[2].strip() or "unknown"

    def _is_complete(self, part: str) -> bool:
        return (self._folder / part / ".installed").exists()
