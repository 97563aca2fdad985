"""A server for tests, as a process with an embedded Valkey."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from types import TracebackType
from typing import Any, Final, Self

from distributor.agent import Agent
from distributor.agent.command_context import AnyHandler
from distributor.client import CommandClient
from distributor.errors import Unavailable
from distributor.processes.child_process import ChildProcess
from distributor.testing.loop_thread import LoopThread
from distributor.testing.served_agent import ServedAgent
from distributor.testing.server_log import ServerLog

START_SECONDS: Final = 60.0
STOP_SECONDS: Final = 10.0
CAPACITY: Final = 10
PROGRAM: Final = ("-m", "distributor.testing.server_program")


class LocalServer:
    """One server inside the context, for any number of agents. `address` is where it listens."""

    def __init__(self) -> None:
        self.address = ""
        self._stack = ExitStack()
        self._loop: LoopThread | None = None
        self._client: CommandClient | None = None
        self._numbers = itertools.count(1)

    def agent(
        self, handlers: Mapping[str, AnyHandler], *, agent_id: str = "", capacity: int = CAPACITY, **options: Any
    ) -> ServedAgent:
        """An agent with these handlers by command type, as a context manager. `options` go to `Agent`.

        Without an `agent_id` it has one of its own.
        """
        if self._loop is None or self._client is None:
            raise RuntimeError("the server has not been started: use it in a with statement")
        made = Agent(agent_id or f"test-agent-{next(self._numbers)}", server=self.address, capacity=capacity, **options)
        # Its commands end with the test.
        made.journal = None
        for command_type, handler in handlers.items():
            made.add_handler(command_type, handler)
        return ServedAgent(made, self._client, self._loop)

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            folder = stack.enter_context(TemporaryDirectory(prefix="distributor-"))
            self._loop = LoopThread()
            stack.callback(self._loop.close)
            self.address = self._serve(Path(folder), self._loop, stack)
            self._client = self._loop.run(CommandClient(self.address).__aenter__())
            stack.callback(self._disconnect)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()
        self._loop = self._client = None

    def _disconnect(self) -> None:
        assert self._loop is not None
        assert self._client is not None
        self._loop.run(self._client.__aexit__(None, None, None))

    @staticmethod
    def _serve(folder: Path, loop: LoopThread, stack: ExitStack) -> str:
        log = ServerLog()
        stack.callback(log.close)
        with log.target:
            process = ChildProcess([sys.executable, *PROGRAM, folder], output=log.target)
        stack.callback(lambda: loop.run(process.stop(STOP_SECONDS)))
        address = log.wait_for_address(START_SECONDS)
        if not address:
            raise Unavailable(f"the server for tests did not start:\n{log.text}")
        return address
