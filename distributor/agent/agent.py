"""What an agent author imports: an Agent with handlers."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import uuid
from collections.abc import Callable, Mapping
from typing import Final, TypeVar

from distributor import __version__
from distributor.agent.command_context import Handler
from distributor.agent.handlers.exec_program import EXEC, ExecHandler, ExecPolicy
from distributor.agent.handlers.ping import ping_handler
from distributor.agent.handlers.stop import STOP, stop_handler
from distributor.agent.runtime import FINISH_SECONDS, AgentRuntime
from distributor.agent.session_state import AgentProfile
from distributor.errors import ConfigurationError, FailedPrecondition
from distributor.model.agent_session import MAX_CAPACITY
from distributor.model.command import COMMAND_TYPE_PATTERN, Reason, check_agent_id
from distributor.observability.logging import log_context, show_lines_of_ours
from distributor.wire.transport import DEFAULT_PORT

H = TypeVar("H", bound=Handler)

PING: Final = "PING"
MAX_TYPES: Final = 100

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
    looks up the programs that an `exec_policy` names. One event loop serves an agent; handlers run on it as tasks, at
    most `capacity` at once. Raises InvalidField for a badly spelt agent id, and ConfigurationError for a capacity
    outside 1 to 1,000 or an allowed program that is not on this host.
    """

    def __init__(
        self,
        agent_id: str,
        *,
        server: str = f"127.0.0.1:{DEFAULT_PORT}",
        capacity: int = 1,
        labels: Mapping[str, str] | None = None,
        exec_policy: ExecPolicy | None = None,
    ) -> None:
        check_agent_id(agent_id)
        if not 1 <= capacity <= MAX_CAPACITY:
            raise ConfigurationError(f"capacity must be 1 to {MAX_CAPACITY:,}, not {capacity:,}")
        self.agent_id = agent_id
        self.server = server
        self.capacity = capacity
        self.labels = dict(labels or {})
        self._handlers: dict[str, Handler] = {PING: ping_handler(agent_id)}
        self._exec = ExecHandler(exec_policy) if exec_policy else None
        if self._exec:
            self._handlers[EXEC] = self._exec
        self._runtime: AgentRuntime | None = None
        self._signals = 0

    def handler(self, command_type: str) -> Callable[[H], H]:
        """Decorator: run commands of `command_type` with this coroutine function. Types can be taken once."""

        def register(handler: H) -> H:
            self.add_handler(command_type, handler)
            return handler

        return register

    def add_handler(self, command_type: str, handler: Handler) -> None:
        """As the decorator does.

        Raises ConfigurationError for a bad or taken type, more than 100 of them, or a handler that is not async.
        """
        if not COMMAND_TYPE_PATTERN.fullmatch(command_type):
            raise ConfigurationError(
                f"a command type must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {command_type!r}"
            )
        if command_type in self._handlers or command_type == STOP:
            raise ConfigurationError(f"there is a handler for {command_type} already")
        if len(self._handlers) + 1 >= MAX_TYPES:
            raise ConfigurationError(f"an agent can have handlers for at most {MAX_TYPES} types")
        if not inspect.iscoroutinefunction(handler) and not inspect.iscoroutinefunction(type(handler).__call__):
            raise ConfigurationError(f"the handler for {command_type} must be an async function")
        self._handlers[command_type] = handler

    def run(self) -> None:
        """Serve until told to leave: by STOP, by the server, or by SIGTERM or SIGINT.

        The first signal lets running work finish, for at most 30 s; the second cancels it; the third ends the
        process at once. Tells on stderr what happens to it, unless the program has set up `logging`.
        Raises InvalidArgument when the server says that this agent can never attach.
        """
        show_lines_of_ours()
        asyncio.run(self._serve_with_signals())

    async def serve(self) -> None:
        """As `run()`, on the loop of the caller and without touching signals. `stop()` ends it.

        Raises FailedPrecondition while it serves already.
        """
        if self._runtime is not None:
            raise FailedPrecondition("the agent is serving already")
        runtime = self._runtime = AgentRuntime(self._profile(), self.server, self._handlers)
        runtime.add_handler(STOP, stop_handler(runtime))
        try:
            with log_context(agent_id=self.agent_id):
                await runtime.run()
        finally:
            self._runtime = None

    def stop(self, reason: str = "stopped", *, cancel: bool = False, within: float | None = None) -> None:
        """Leave once running work has ended and its results are acknowledged.

        `cancel` stops running work now, `within` after that many seconds. Call it on the agent's loop, while it serves.
        """
        if self._runtime is None:
            raise FailedPrecondition("the agent is not serving")
        # Whoever calls may be anywhere: a signal, another task.
        with log_context(agent_id=self.agent_id):
            self._runtime.leave(reason, cancel=cancel, within=within)

    def _profile(self) -> AgentProfile:
        return AgentProfile(
            agent_id=self.agent_id,
            instance_id=uuid.uuid4().hex,
            capacity=self.capacity,
            types=(*self._handlers, STOP),
            labels=self.labels,
            agent_version=f"distributor/{__version__}",
            denied={} if EXEC in self._handlers else {EXEC: _EXEC_DENIED},
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
