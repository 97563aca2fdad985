"""An agent that serves while a test exchanges messages with it."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

from distributor.agent import Agent, CommandContext
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession
from tests.support.waiting import until

T = TypeVar("T")


@dataclass
class Serving:
    """A serving agent, the task that serves, and its first session."""

    agent: Agent
    task: asyncio.Task[None]
    session: ScriptedSession


@asynccontextmanager
async def background(coroutine: Coroutine[Any, Any, T]) -> AsyncIterator[asyncio.Task[T]]:
    """Run something beside the test; cancelled at the end if it has not ended by itself."""
    task = asyncio.create_task(coroutine)
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.wait({task})


@asynccontextmanager
async def serving(agent: Agent, gateway: ScriptedGateway, **welcome_changes: Any) -> AsyncIterator[Serving]:
    """Serve `agent`, welcome its first session, and wait for the heartbeat that follows."""
    async with background(agent.serve()) as task:
        session = await gateway.session(**welcome_changes)
        await session.until(lambda seen: seen)
        yield Serving(agent, task, session)


@contextmanager
def logged(text: str) -> Iterator[asyncio.Event]:
    """An event that is set once the agent logs a line with `text`."""
    seen = asyncio.Event()

    class Watcher(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if text in record.getMessage():
                seen.set()

    watcher = Watcher()
    logger = logging.getLogger("distributor.agent")
    logger.addHandler(watcher)
    try:
        yield seen
    finally:
        logger.removeHandler(watcher)


class Flag:
    """An event between the test and a handler, which runs on another event loop."""

    def __init__(self) -> None:
        self._set = threading.Event()

    def set(self) -> None:
        self._set.set()

    def is_set(self) -> bool:
        return self._set.is_set()

    async def wait(self) -> None:
        """Looks again and again: asyncio has no event that two loops can share."""
        await until(self.is_set)


class Gate:
    """A handler that prints, then waits until the test opens it."""

    def __init__(self) -> None:
        self.open = Flag()

    async def __call__(self, command: CommandContext) -> object:
        await command.output(f"{command.command_id} waits\n")
        await self.open.wait()
        await command.output("done\n")
        return {"done": command.command_id}


async def goodbye(session: ScriptedSession) -> str:
    """The reason that the agent gives when it leaves, waited for."""
    await session.until(lambda _: session.said_goodbye())
    return session.seen[-1].goodbye.reason
