"""Child processes of the benchmark."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

from bench.findings import BenchFailed
from distributor.processes.die_with_parent import tied_to_parent

ROOT = Path(__file__).resolve().parents[1]
START_TIMEOUT_SECONDS = 60.0
STOP_TIMEOUT_SECONDS = 30.0
LOG_LINES_SHOWN = 10


class Child:
    """A process, Python unless `program` is another, that runs inside this async context manager.

    It has its own session, so that Ctrl-C reaches only the benchmark, which then ends it in order. It dies with the
    benchmark. Its stderr goes to a file in `folder`, as does what it would leave with the user, such as the journal of
    an agent; stdin and stdout are pipes.
    """

    def __init__(
        self,
        name: str,
        folder: Path,
        *arguments: str,
        environment: dict[str, str] | None = None,
        program: str = sys.executable,
    ) -> None:
        """`program` is an absolute path."""
        self._name = name
        self._program = program
        self._arguments = arguments
        self._environment = environment or {}
        self._log = folder / f"{name}.log"
        self._process: Process

    @property
    def pid(self) -> int:
        return self._process.pid

    async def __aenter__(self) -> Self:
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DISTRIBUTOR_")}
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *tied_to_parent(self._program, *self._arguments),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                cwd=self._log.parent,
                env={**kept, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(self._log.parent), **self._environment},
                start_new_session=True,
            )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process.returncode is None:
            self._process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(self._process.wait(), STOP_TIMEOUT_SECONDS)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()

    def terminate(self) -> None:
        """Ask it to end, so that it prints what it has found; it is awaited at the end of the context."""
        self._process.send_signal(signal.SIGTERM)

    async def write_line(self, text: str) -> None:
        """Write a line to its stdin. Raises BenchFailed if it has ended."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(f"{text}\n".encode())
            await self._process.stdin.drain()
        except ConnectionError:
            raise BenchFailed(f"the {self._name} process has ended{self._log_end()}") from None

    async def line(self, timeout_seconds: float = START_TIMEOUT_SECONDS) -> str:
        """Return the next line it prints. Raises BenchFailed, with the end of its log, if it ends or prints nothing."""
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), timeout_seconds)
        except TimeoutError:
            raise BenchFailed(f"the {self._name} process printed nothing{self._log_end()}") from None
        if not line:
            await self.fail_at_end()
        return line.decode().rstrip()

    async def fail_at_end(self) -> NoReturn:
        """Wait for it to end, then raise BenchFailed, with the end of its log."""
        raise BenchFailed(f"the {self._name} process ended with {await self._process.wait()}{self._log_end()}")

    async def log_line(self, text: str) -> str:
        """Wait for a log line that contains `text`, and return it."""
        deadline = asyncio.get_running_loop().time() + START_TIMEOUT_SECONDS
        while True:
            for line in self._log.read_text(errors="replace").splitlines():
                if text in line:
                    return line
            if self._process.returncode is not None or asyncio.get_running_loop().time() > deadline:
                raise BenchFailed(f"the {self._name} process did not start{self._log_end()}")
            await asyncio.sleep(0.02)

    def _log_end(self) -> str:
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_LINES_SHOWN:]
        return "; the end of its log:\n" + "\n".join(lines)
