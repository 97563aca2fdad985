"""Runs cmd/command_sender.py as a process, as a shell does."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.support.waiting import PATIENCE_SECONDS

ROOT = Path(__file__).resolve().parents[2]
LAUNCHER = ROOT / "cmd" / "command_sender.py"


@dataclass(frozen=True)
class Finished:
    """What a shell sees of a finished process."""

    code: int
    stdout: bytes
    stderr: str

    @property
    def document(self) -> Any:
        """stdout as one JSON document."""
        return json.loads(self.stdout)

    @property
    def records(self) -> list[Any]:
        """stdout as a JSON document per line."""
        return [json.loads(line) for line in self.stdout.splitlines()]


async def start_sender(
    server: str, *arguments: str, unbuffered: bool = False, launcher: Path = LAUNCHER, **streams: Any
) -> Process:
    """Start it; `streams` replace stdin, stdout or stderr, `launcher` the program. No `server`: it finds one itself."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    if server:
        environment["DISTRIBUTOR_SERVER"] = server
    environment["PYTHONUNBUFFERED"] = "1" if unbuffered else ""
    streams = {"stdin": DEVNULL, "stdout": PIPE, "stderr": PIPE} | streams
    return await asyncio.create_subprocess_exec(sys.executable, str(launcher), *arguments, env=environment, **streams)


async def run_sender(
    server: str, *arguments: str, stdin: bytes | None = None, unbuffered: bool = False, launcher: Path = LAUNCHER
) -> Finished:
    """Run it to its end."""
    process = await start_sender(
        server, *arguments, unbuffered=unbuffered, launcher=launcher, stdin=DEVNULL if stdin is None else PIPE
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        stdout, stderr = await process.communicate(stdin)
    assert process.returncode is not None
    assert "Traceback" not in stderr.decode()
    return Finished(process.returncode, stdout, stderr.decode())
