"""The model agent as the kit starts and ends it, and scenarios played against it in virtual time."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from distributor.conformance.scenario import Scenario
from distributor.conformance.score import Score, score
from distributor.conformance.trial import Trial
from tests.support import model_agent
from tests.support.memory_gateway import MemoryGateway
from tests.support.model_agent import Journal, ModelAgent
from tests.support.virtual_time import run_in_virtual_time

PATIENCE_SECONDS = 30.0
LIMIT_SECONDS = 300.0
ORPHAN_AFTER_SECONDS = 3.0


class Program(Protocol):
    """Makes an agent."""

    def __call__(self, gateway: MemoryGateway, journal: Journal, *, orphan_after: float) -> ModelAgent: ...


def broken(right: str, wrong: str) -> Program:
    """The agent with one place of its source changed."""
    path = Path(str(model_agent.__file__))
    source = path.read_text(encoding="utf-8")
    assert source.count(right) == 1, f"{source.count(right)} places with: {right}"
    names: dict[str, Any] = {"__name__": model_agent.__name__}
    exec(compile(source.replace(right, wrong), path, "exec"), names)
    program: Program = names["ModelAgent"]
    return program


def played(one: Scenario, program: Program = ModelAgent) -> Score:
    """How an agent does in a scenario. Takes milliseconds, whatever the scenario waits for."""
    orphan_after = ORPHAN_AFTER_SECONDS if one.name == "orphaned" else 0.0
    return run_in_virtual_time(score(one, _stage(program, orphan_after), LIMIT_SECONDS))


@asynccontextmanager
async def _stage(program: Program, orphan_after: float) -> AsyncIterator[Trial]:
    gateway = MemoryGateway(PATIENCE_SECONDS)
    await gateway.start()
    process = ModelProcess(gateway, partial(program, orphan_after=orphan_after))
    process.start()
    with tempfile.TemporaryDirectory(prefix="model-agent-") as folder:
        try:
            yield Trial(gateway, process, Path(folder))
        finally:
            await process.kill()
            await gateway.stop()


class ModelProcess:
    """An agent as tasks of this event loop. Killed, it says nothing more; its journal stays."""

    last_line = ""

    def __init__(self, gateway: MemoryGateway, program: Callable[[MemoryGateway, Journal], ModelAgent]) -> None:
        self._gateway = gateway
        self._program = program
        self._journal = Journal()

    def start(self) -> None:
        """Start it, again after it has ended."""
        self._agent = self._program(self._gateway, self._journal)
        self._main = asyncio.create_task(self._agent.run())

    def remove_journal(self) -> None:
        """Lose its journal."""
        self._journal = Journal()

    async def kill(self) -> None:
        """End it at once, and wait for that."""
        tasks = [self._main, *self._agent.tasks]
        if self._agent.stream:
            self._agent.stream.stream.cancel()
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)

    def send_signal(self, number: signal.Signals) -> None:
        """Let it leave on SIGTERM."""
        if number == signal.SIGTERM:
            self._agent.leave()

    async def ended(self) -> int:
        """Its exit code, 1 after an exception."""
        await asyncio.wait({self._main})
        return 1 if self._main.cancelled() or self._main.exception() else self._main.result()
