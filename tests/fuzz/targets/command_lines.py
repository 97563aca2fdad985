"""The three programs, with arguments that no operator means. They run one by one in a process of their own."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

from tests.fuzz.target import Fault
from tests.support.launched_server import ROOT
from tests.support.waiting import PATIENCE_SECONDS


class CommandLines:
    """Asks the runner for one program at a time."""

    name = "command lines"
    workers = 1

    def __init__(self, runner: Process) -> None:
        self._runner = runner

    async def attempt(self, rng: Random, sound: bool) -> None:
        """Run one program. Raises Fault for a traceback, a missing message, or an exit code without a meaning."""
        assert self._runner.stdin is not None
        assert self._runner.stdout is not None
        seed = rng.getrandbits(63)
        self._runner.stdin.write(json.dumps({"seed": seed, "sound": sound}).encode() + b"\n")
        async with asyncio.timeout(2 * PATIENCE_SECONDS):
            line = await self._runner.stdout.readline()
        if not line:
            raise Fault("the process that runs programs ended", {"seed": seed, "code": await self._runner.wait()})
        ended = json.loads(line)
        if ended["fault"]:
            raise Fault(f"command line: {ended['fault']}", ended["arguments"])


@asynccontextmanager
async def command_lines(folder: Path, server: str) -> AsyncIterator[CommandLines]:
    """The target; its programs call `server` and work in `folder`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "DISTRIBUTOR_SERVER": server, "GRPC_VERBOSITY": "NONE"}
    environment |= {"XDG_STATE_HOME": str(folder), "XDG_CONFIG_HOME": str(folder), "HOME": str(folder)}
    with (folder / "command-lines.log").open("wb") as log:
        runner = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "tests.fuzz.command_line_runner"),
            cwd=folder,
            env=environment,
            stdin=PIPE,
            stdout=PIPE,
            stderr=log,
            limit=1 << 22,
        )
    try:
        yield CommandLines(runner)
    finally:
        assert runner.stdin is not None
        runner.stdin.close()
        try:
            await asyncio.wait_for(runner.wait(), PATIENCE_SECONDS)
        except TimeoutError:
            runner.kill()
            await runner.wait()
