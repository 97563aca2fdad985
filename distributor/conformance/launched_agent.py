"""The process of an agent under test."""

from __future__ import annotations

import os
import shutil
import signal
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from types import MappingProxyType
from typing import Final

from distributor.errors import ConfigurationError
from distributor.processes.child_process import ChildProcess

LOG_TAIL_BYTES: Final = 4_096


class LaunchedAgent:
    """Starts, ends and restarts an agent by its command line. Use it on the main thread, as ChildProcess requires.

    In the command line, `{address}` stands for the address to connect to and `{journal}` for a path of the scenario's
    own, where the agent may create a file or a folder; `values` are further placeholders.
    """

    def __init__(
        self, program: Sequence[str], address: str, folder: Path, values: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        self._journal = folder / "journal"
        every = {"{address}": address, "{journal}": str(self._journal), **values}
        self._program = [_filled(word, every) for word in program]
        self._program[0] = found(self._program[0])
        self._log = folder / "agent.log"
        self._process: ChildProcess | None = None

    def start(self) -> None:
        """Start the agent; what it prints goes to its log."""
        with self._log.open("ab") as log:
            self._process = ChildProcess(self._program, output=log)

    def remove_journal(self) -> None:
        """Remove what the agent keeps at its journal's path, and beside it under names that begin alike."""
        for path in self._journal.parent.glob(f"{self._journal.name}*"):
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()

    async def kill(self) -> None:
        """End the agent and its process group with SIGKILL, and wait for that."""
        self.send_signal(signal.SIGKILL)
        await self.ended()

    def send_signal(self, number: signal.Signals) -> None:
        """Send a signal to the agent and its process group, if it runs."""
        process = self._running()
        # Once the exit code has been read, the id may be another's.
        if process.exit_code is None:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, number)

    async def ended(self) -> int:
        """The exit code, once the agent has ended; negative for a signal."""
        return await self._running().wait()

    @property
    def last_line(self) -> str:
        """The last line of its log, empty if there is none."""
        with self._log.open("rb") as log:
            log.seek(max(0, self._log.stat().st_size - LOG_TAIL_BYTES))
            lines = log.read().decode(errors="replace").split("\n")
        return next((line for line in reversed(lines) if line.strip()), "")

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the agent was not started")
        return self._process


def found(program: str) -> str:
    """The path of a program. Raises ConfigurationError if there is none."""
    path = shutil.which(program)
    if path is None:
        raise ConfigurationError(f"there is no program {program}")
    return str(Path(path).absolute())


def _filled(word: str, values: Mapping[str, str]) -> str:
    for name, value in values.items():
        word = word.replace(name, value)
    return word
