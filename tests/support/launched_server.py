"""Runs cmd/distributor_server.py as a process, as an operator does."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Final

from tests.support.waiting import PATIENCE_SECONDS

ROOT: Final = Path(__file__).resolve().parents[2]
LAUNCHER: Final = ROOT / "cmd" / "distributor_server.py"


class LaunchedServer:
    """A started process whose lines are kept as they come."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.stdout: list[str] = []
        self.stderr: list[str] = []
        self._changed = asyncio.Event()
        assert process.stdout is not None
        assert process.stderr is not None
        self._readers = [
            asyncio.create_task(self._keep(process.stdout, self.stdout)),
            asyncio.create_task(self._keep(process.stderr, self.stderr)),
        ]

    async def line(self, text: str, times: int = 1) -> str:
        """The first line with `text`, or the one that makes it so many, waited for."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                self._changed.clear()
                found = [line for line in (*self.stdout, *self.stderr) if text in line]
                if len(found) >= times:
                    return found[times - 1]
                assert not all(reader.done() for reader in self._readers), self.everything
                await self._changed.wait()

    async def ended(self) -> int:
        """The exit code, once the process has ended and everything it wrote is kept."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            code = await self.process.wait()
            await asyncio.wait(self._readers)
        return code

    @property
    def everything(self) -> str:
        return "\n".join(["stdout:", *self.stdout, "stderr:", *self.stderr])

    async def _keep(self, stream: asyncio.StreamReader, lines: list[str]) -> None:
        while line := await stream.readline():
            lines.append(line.decode().rstrip("\n"))
            self._changed.set()
        self._changed.set()


@asynccontextmanager
async def launched_server(*arguments: str, **environment: str) -> AsyncIterator[LaunchedServer]:
    """`distributor ...` with these arguments; killed at the end if it still runs, with all that it started."""
    whole = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1", **environment}
    async with launched_program(sys.executable, str(LAUNCHER), *arguments, environment=whole) as server:
        yield server


@asynccontextmanager
async def launched_program(
    *command: str | Path, environment: dict[str, str], cwd: Path | None = None
) -> AsyncIterator[LaunchedServer]:
    """Any program, likewise."""
    process = await asyncio.create_subprocess_exec(
        *command, env=environment, cwd=cwd, stdin=DEVNULL, stdout=PIPE, stderr=PIPE, start_new_session=True
    )
    server = LaunchedServer(process)
    try:
        yield server
    finally:
        descendants = descendants_of(process.pid)
        with suppress(ProcessLookupError):
            process.kill()
        end(descendants)
        await server.ended()


def descendants_of(pid: int) -> set[int]:
    """Ids of all processes that a process started, and those started."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # After the name, which may hold anything: state and parent.
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def agent_of(server: LaunchedServer) -> int:
    """The process id of the agent that a server started."""
    (agent,) = [pid for pid in descendants_of(server.process.pid) if b"command_agent" in command_line(pid)]
    return agent


def address_of(server: LaunchedServer) -> str:
    """Where it says that it serves."""
    (line,) = [line for line in server.stdout if "(gRPC)" in line]
    return line.split()[1]


def command_line(pid: int) -> bytes:
    """Empty where the process has ended meanwhile."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


def end(pids: set[int]) -> None:
    """Kill these processes, those that still run."""
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


async def gone(pids: set[int]) -> None:
    """Return once none of these processes runs any more; fails after a while."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        for pid in pids:
            with suppress(ProcessLookupError):
                fd = os.pidfd_open(pid)
                ended = asyncio.Event()
                asyncio.get_running_loop().add_reader(fd, ended.set)
                try:
                    await ended.wait()
                finally:
                    asyncio.get_running_loop().remove_reader(fd)
                    os.close(fd)


def somewhere(data_dir: Path) -> list[str]:
    """Arguments for free ports and a data folder."""
    return ["--listen=127.0.0.1:0", "--http-listen=127.0.0.1:0", f"--data-dir={data_dir}"]
