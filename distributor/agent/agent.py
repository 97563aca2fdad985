"""What an agent author imports: an Agent with handlers."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final, TypeVar

from distributor import __version__
from distributor.agent.command_context import AnyHandler
from distributor.agent.handlers.exec_program import EXEC, ExecHandler, ExecPolicy
from distributor.agent.handlers.ping import ping_handler
from distributor.agent.handlers.stop import stop_handler
from distributor.agent.runtime import FINISH_SECONDS, AgentRuntime
from distributor.agent.session_state import AgentProfile
from distributor.agent.workload import STOP_GRACE_SECONDS, HandlerTable
from distributor.errors import ConfigurationError, FailedPrecondition
from distributor.model.agent_session import MAX_CAPACITY
from distributor.model.command import COMMAND_TYPE_PATTERN, Reason, check_agent_id
from distributor.model.control import PING, STOP
from distributor.observability.logging import ensure_log_handler, log_context
from distributor.wire.transport import DEFAULT_PORT

H = TypeVar("H", bound=AnyHandler)

MAX_TYPES: Final = 100

KILLED_SECONDS: Final = 15.0
"""How long a killed program may take to be gone, and its last output to be taken."""

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_EXEC_DENIED: Final = Reason("exec_not_allowed", "this host does not allow EXEC; its operator can, with --allow-exec")


class Agent:
    """A named executor with handlers for types of commands.

        agent = Agent("agent123", server="127.0.0.1:50051")

        @agent.handler("GREET")
        async def greet(command):
            await command.output("hello\\n")
            return {"greeting": f"hello {command.params['name']}"}

        agent.run()

    PING and STOP come with every agent; EXEC only where an `exec_policy` allows it. The constructor starts nothing; it
    looks up the programs that an `exec_policy` names.

    At most `capacity` handlers run at once, never on the event loop of the connection: `async def` handlers share a
    loop in a thread of their own, each `def` handler has a worker thread and is given a BlockingContext. One that is
    asked to stop and has not within `stop_grace` seconds fails as `would_not_stop`, and keeps its place until it ends.

    Raises InvalidField for a badly spelt agent id, and ConfigurationError for a capacity outside 1 to 1,000, a negative
    `stop_grace`, or an allowed program that is not on this host.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        server: str = f"127.0.0.1:{DEFAULT_PORT}",
        capacity: int = 1,
        labels: Mapping[str, str] | None = None,
        exec_policy: ExecPolicy | None = None,
        stop_grace: float = STOP_GRACE_SECONDS,
    ) -> None:
        check_agent_id(agent_id)
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ConfigurationError(f"capacity must be 1 to {MAX_CAPACITY:,}, not {capacity:,}")
        if stop_grace < 0:
            raise ConfigurationError(f"stop_grace must be 0 or more seconds, not {stop_grace:g}")
        self.agent_id = agent_id
        self.server = server
        self.capacity = capacity
        self.labels = dict(labels or {})
        self._table = HandlerTable({PING: ping_handler(agent_id)}, {PING}, stop_grace)
        self._exec = ExecHandler(exec_policy) if exec_policy else None
        if self._exec and exec_policy:
            self._table.handlers[EXEC] = self._exec
            self._table.prompt.add(EXEC)
            # Its programs are killed after their own grace; then only the system can keep them.
            self._table.stop_graces[EXEC] = exec_policy.stop_grace + KILLED_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._runtime: AgentRuntime | None = None
        self._signals = 0

    def handler(self, command_type: str) -> Callable[[H], H]:
        """Decorator: run commands of `command_type` with this function, async or not. Types can be taken once."""

        def register(handler: H) -> H:
            self.add_handler(command_type, handler)
            return handler

        return register

    def add_handler(self, command_type: str, handler: AnyHandler) -> None:
        """As the decorator does.

        Raises ConfigurationError for a bad or taken type, more than 100 of them, or a handler that is no function.
        """
        if not COMMAND_TYPE_PATTERN.fullmatch(command_type):
            raise ConfigurationError(
                f"a command type must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {command_type!r}"
            )
        if command_type in self._table.handlers or command_type == STOP:
            raise ConfigurationError(f"there is a handler for {command_type} already")
        if len(self._table.handlers) + 1 >= MAX_TYPES:
            raise ConfigurationError(f"an agent can have handlers for at most {MAX_TYPES} types")
        if not callable(handler) or inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
            raise ConfigurationError(f"the handler for {command_type} must be a function, and must not yield")
        self._table.handlers[command_type] = handler

    def run(self) -> None:
        """Serve until told to leave: by STOP, by the server, or by SIGTERM or SIGINT.

        The first signal lets running work finish, for at most 30 s; the second cancels it; the third ends the
        process at once. Tells on stderr what happens to it, unless the program has set up `logging`.
        Raises InvalidArgument when the server says that this agent can never attach.
        """
        ensure_log_handler()
        asyncio.run(self._serve_with_signals())

    async def serve(self) -> None:
        """As `run()`, on the loop of the caller and without touching signals. `stop()` ends it.

        Raises FailedPrecondition while it serves already.
        """
        if self._runtime is not None:
            raise FailedPrecondition("the agent is serving already")
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        table = replace(self._table, handlers=dict(self._table.handlers), prompt=set(self._table.prompt))
        runtime = self._runtime = AgentRuntime(self._profile(), self.server, table)
        runtime.add_prompt_handler(STOP, stop_handler(runtime))
        try:
            with log_context(agent_id=self.agent_id):
                await runtime.run()
        finally:
            self._runtime = None

    def stop(self, reason: str = "stopped", *, cancel: bool = False, within: float | None = None) -> None:
        """Leave once running work has ended and its results are acknowledged.

        `cancel` stops running work now, `within` after that many seconds. For any thread, so for handlers, too. Raises
        FailedPrecondition while it does not serve.
        """
        runtime, loop = self._runtime, self._loop
        if runtime is None or loop is None:
            raise FailedPrecondition("the agent is not serving")

        def leave() -> None:
            # Whoever called may be anywhere: a signal, another task.
            with log_context(agent_id=self.agent_id):
                runtime.leave(reason, cancel=cancel, within=within)

        if threading.get_ident() == self._thread:
            leave()
        else:
            loop.call_soon_threadsafe(leave)

    def _profile(self) -> AgentProfile:
        return AgentProfile(
            agent_id=self.agent_id,
            instance_id=uuid.uuid4().hex,
            capacity=self.capacity,
            types=(*self._table.handlers, STOP),
            # STOP waits its turn: what came before it has begun by then, and is what it finishes or cancels.
            prompt_types=frozenset(self._table.prompt),
            labels=self.labels,
            agent_version=f"distributor/{__version__}",
            denied={} if EXEC in self._table.handlers else {EXEC: _EXEC_DENIED},
        )

    async def _serve_with_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number)
        await self.serve()

    def _signalled(self, number: signal.Signals) -> None:
        if self._runtime is None:
            return
        self._signals += 1
        if self._signals > 2:
            if self._exec:
                self._exec.kill_all()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stop(number.name, cancel=self._signals == 2, within=FINISH_SECONDS)
