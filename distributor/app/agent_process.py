"""Runs the agent of `dev` and `demo` in a separate process."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from distributor.processes.child_process import ChildProcess
from distributor.processes.open_files import original_open_files_limit
from distributor.processes.supervisor import Supervisor

FINISH_SECONDS: Final = 3.0
"""Time for running commands to finish before the agent cancels them."""
CANCEL_SECONDS: Final = 10.0
"""Time for cancelled commands to end: longer than the agent's grace between SIGTERM and SIGKILL."""


class AgentProcess:
    """An agent process, as an async context manager. Enter it on the main thread, as `ChildProcess` requires.

    The agent dies with this process, even on SIGKILL: an agent that may EXEC must not outlive it. On exit, running
    commands have FINISH_SECONDS to finish and are then cancelled.

    It has the soft limit of open files that this process was started with, and so have the programs that it starts:
    with a far higher one, `select` fails on some descriptors, and closing all possible ones takes long.
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._process: ChildProcess | None = None

    async def ended(self) -> int:
        """Wait for the agent to end and return its exit code."""
        return await self._running().wait()

    async def restart(self) -> None:
        """Start the agent again after it ended."""
        self._process = self._start()

    def supervisor(self) -> Supervisor:
        """Return the loop that restarts the agent when it ends."""
        return Supervisor("the agent", self, reason="AGENT_FAILED", hint="see the log lines above")

    async def __aenter__(self) -> Self:
        self._process = self._start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running().stop(FINISH_SECONDS, CANCEL_SECONDS)

    def _start(self) -> ChildProcess:
        return ChildProcess(self._program, open_files=original_open_files_limit())

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the agent was not started")
        return self._process
