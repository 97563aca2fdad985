"""A folder that looks like /proc."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

import pytest

from distributor.agent import process_table

_NO_ENVIRONMENT: Final[Mapping[str, str]] = {}


class FakeProc:
    """Processes that exist only as files. The process table reads them until the end of the test."""

    def __init__(self, root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.root = root
        monkeypatch.setattr(process_table, "ROOT", str(root))
        (root / "self").mkdir()
        (root / "self" / "stat").touch()
        self.latest(1)

    def latest(self, pid: int) -> None:
        """Set the id that was given out last."""
        (self.root / "loadavg").write_text(f"0.00 0.00 0.00 1/1 {pid}\n")

    def add(
        self,
        pid: int,
        started: int = 100,
        parent: int = 1,
        group: int | None = None,
        *,
        state: str = "S",
        name: str = "program",
        cmdline: str = "",
        environ: Mapping[str, str] = _NO_ENVIRONMENT,
    ) -> None:
        """Add or replace a process; its group is its own unless named."""
        folder = self.root / str(pid)
        folder.mkdir(exist_ok=True)
        group = pid if group is None else group
        between = " ".join(["0"] * 16)
        (folder / "stat").write_text(f"{pid} ({name}) {state} {parent} {group} {between} {started} 0 0\n")
        (folder / "comm").write_text(f"{name}\n")
        (folder / "cmdline").write_text(cmdline)
        (folder / "environ").write_bytes(b"\0".join(f"{key}={value}".encode() for key, value in environ.items()))

    def remove(self, pid: int) -> None:
        """Let a process end, and be reaped."""
        folder = self.root / str(pid)
        for file in folder.iterdir():
            file.unlink()
        folder.rmdir()
