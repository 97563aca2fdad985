"""The agent of `dev` and `demo`, a process of its own."""

from __future__ import annotations

from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from distributor.processes.child_process import ChildProcess
from distributor.processes.supervisor import Supervisor

FINISH_SECONDS: Final = 3.0
"""For running commands to finish, before the agent cancels them."""
CANCEL_SECONDS: Final = 10.0
"""For cancelled commands to end: longer than an agent waits between TERM and KILL of a program."""


class AgentProcess:
    """One agent process, from entering to leaving. Enter it on the main thread, as `ChildProcess` requires.

    It dies with this process, even on SIGKILL: an agent that may EXEC must not be left behind. On leaving, running
    commands have a few seconds to finish and are then cancelled; none is left behind.
    """

    def __init__(self, program: Sequence[str]) -> None:
        self._program = program
        self._process: ChildProcess | None = None

    async def ended(self) -> int:
        """Wait for its end; returns the exit code."""
        return await self._running().wait()

    async def restart(self) -> None:
        """Start it again after it has ended by itself."""
        self._process = ChildProcess(self._program)

    def supervisor(self) -> Supervisor:
        """The loop that restarts it when it ends by itself."""
        return Supervisor("the agent", self, reason="AGENT_FAILED", hint="the lines above say why")

    async def __aenter__(self) -> Self:
        self._process = ChildProcess(self._program)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running().stop(FINISH_SECONDS, CANCEL_SECONDS)

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the agent was not started")
        return self._process
