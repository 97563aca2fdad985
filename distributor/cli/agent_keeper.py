"""Keeps the agent of `dev` and `demo` running: nobody else would start it again."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from types import TracebackType
from typing import Final, Self

from distributor.errors import Unavailable
from distributor.model.restart_budget import MOST_RESTARTS, WITHIN_SECONDS, RestartBudget
from distributor.observability.logging import get_logger
from distributor.store import die_with_parent
from distributor.store.child_process import ChildProcess

logger = get_logger()

STOP_SECONDS: Final = 10.0


class AgentKeeper:
    """One agent process from entering to leaving, and the loop that starts it again should it end by itself.

    Enter it on the main thread: the process ends with the thread that started it.
    """

    def __init__(self, program: Sequence[str]) -> None:
        # Should we be killed, it ends too: an agent that may EXEC must not be forgotten.
        self._program = (sys.executable, "-I", "-S", die_with_parent.__file__, str(os.getpid()), *program)
        self._process: ChildProcess | None = None
        self._budget = RestartBudget()

    async def run(self) -> None:
        """Restart it until cancelled. Raises Unavailable where it ended too often."""
        while True:
            await self.run_once()

    async def run_once(self) -> None:
        """Wait until it has ended, and start it again."""
        exit_code = await self._running().wait()
        if not self._budget.spend(asyncio.get_running_loop().time()):
            raise Unavailable(
                f"the agent ended again (exit code {exit_code}) after {MOST_RESTARTS} restarts within "
                f"{WITHIN_SECONDS:g} s; the lines above say why",
                reason="AGENT_FAILED",
            )
        logger.error("the agent ended, starting it again", exit_code=exit_code)
        self._process = ChildProcess(self._program)

    async def __aenter__(self) -> Self:
        self._process = ChildProcess(self._program)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._running().stop(STOP_SECONDS)

    def _running(self) -> ChildProcess:
        if self._process is None:
            raise RuntimeError("the agent was not started")
        return self._process
