"""An agent of a test: its handlers run in the process of the test, and commands reach them through a server."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Final, Self

from distributor.agent import Agent
from distributor.client import CommandClient, CommandRequest, JsonValue
from distributor.model.control import PING
from distributor.tasks import first_to_end, stop_tasks
from distributor.testing.loop_thread import LoopThread
from distributor.testing.running_command import PATIENCE_SECONDS, Outcome, RunningCommand

ATTACH_SECONDS: Final = 10.0
NO_PARAMS: Final[Mapping[str, JsonValue]] = {}


class ServedAgent:
    """An agent that serves inside the context. Created by `LocalServer.agent`.

    Handlers run as in production: `async def` handlers on an event loop of their own, not that of the test, and `def`
    handlers in threads. So they may use the test's variables and mocks, but not the asyncio objects of its loop.
    """

    def __init__(self, agent: Agent, client: CommandClient, loop: LoopThread) -> None:
        self.agent_id = agent.agent_id
        self._agent = agent
        self._client = client
        self._loop = loop
        self._serving: asyncio.Task[None] | None = None

    def run(
        self,
        command_type: str,
        params: Mapping[str, JsonValue] = NO_PARAMS,
        *,
        timeout: float = PATIENCE_SECONDS,
        **request: Any,
    ) -> Outcome:
        """Run a command and return how it ended; `request` has further fields of `CommandRequest`.

        Raises TimeoutError if it has not ended after `timeout` seconds, and InvalidArgument or FailedPrecondition if
        the server refuses it, for example because there is no handler for its type.
        """
        return self.start(command_type, params, **request).wait(timeout)

    async def run_async(
        self,
        command_type: str,
        params: Mapping[str, JsonValue] = NO_PARAMS,
        *,
        timeout: float = PATIENCE_SECONDS,
        **request: Any,
    ) -> Outcome:
        """Run a command like `run`, without blocking the caller's event loop."""
        queued = await asyncio.wrap_future(self._loop.submit(self._queue(command_type, params, request)))
        return await queued.wait_async(timeout)

    def start(self, command_type: str, params: Mapping[str, JsonValue] = NO_PARAMS, **request: Any) -> RunningCommand:
        """Queue a command and return at once."""
        return self._loop.run(self._queue(command_type, params, request))

    def __enter__(self) -> Self:
        self._loop.run(self._attach())
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._loop.run(self._leave())

    async def _queue(
        self, command_type: str, params: Mapping[str, JsonValue], request: Mapping[str, Any]
    ) -> RunningCommand:
        queued = await self._client.queue(CommandRequest(self.agent_id, command_type, params, **request))
        return RunningCommand(queued.command_id, self._client, self._loop)

    async def _attach(self) -> None:
        self._serving = asyncio.create_task(self._agent.serve())
        ping = await self._queue(PING, NO_PARAMS, {})
        # It waits for the agent. So do other commands, but the server refuses unknown types only once it is there.
        answered = asyncio.create_task(self._client.wait(ping.command_id, ATTACH_SECONDS))
        await first_to_end([self._serving, answered])
        await stop_tasks([answered])

    async def _leave(self) -> None:
        assert self._serving is not None
        if not self._serving.done():
            self._agent.stop("the test has ended", cancel=True)
        await self._serving
