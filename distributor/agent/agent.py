"""The agent, with the handlers that its author adds."""

from __future__ import annotations

import asyncio
import inspect
import os
import signal
import threading
import uuid
from collections.abc import Callable, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Final, TypeVar

from distributor import __version__
from distributor.agent.agent_journal import AgentJournal
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.command_context import AnyHandler
from distributor.agent.handlers.exec_program import EXEC, ExecHandler, ExecPolicy
from distributor.agent.handlers.ping import ping_handler
from distributor.agent.handlers.stop import stop_handler
from distributor.agent.identity_files import IdentityFiles
from distributor.agent.journal_policy import JournalPolicy
from distributor.agent.process_signals import KILLED_SECONDS
from distributor.agent.runtime import FINISH_SECONDS, AgentRuntime
from distributor.agent.vetting import SignaturePolicy, Vetting
from distributor.agent.workload import STOP_GRACE_SECONDS, HandlerTable
from distributor.environment import default_journal
from distributor.errors import ConfigurationError, FailedPrecondition
from distributor.identity.policy_source import PolicySource
from distributor.model.agent_session import MAX_CAPACITY
from distributor.model.command import COMMAND_TYPE_PATTERN, Reason, check_agent_id
from distributor.model.control import PING, STOP
from distributor.observability.logging import ensure_log_handler, log_context
from distributor.observability.watched_loop import WatchedLoop
from distributor.wire.compression import Compression
from distributor.wire.credentials import NO_CREDENTIALS, Connector
from distributor.wire.message_packer import MessagePacker
from distributor.wire.transport import DEFAULT_PORT

H = TypeVar("H", bound=AnyHandler)

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

    Every agent handles PING and STOP, and EXEC if it has an `exec_policy`. The constructor starts nothing; it looks up
    the programs that the `exec_policy` names.

    Commands of at most `capacity` slots run at once; most use one. Handlers never run on the event loop of the
    connection: `async def` handlers share a loop in a thread of their own, each `def` handler has a worker thread and
    receives a BlockingContext. A handler that does not stop within `stop_grace` seconds of a request occupies its slots
    until it ends; its command fails as `would_not_stop`, or stays running if a cancel was the request.

    Raises InvalidField for an invalid agent id, and ConfigurationError for a capacity outside 1 to 1,000, a negative
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
        self.compression = Compression()
        """Compression of messages from and to the server. Changes take effect when the agent starts to serve."""
        self.credentials = NO_CREDENTIALS
        """The agent's certificate and token, and the authorities it trusts.

        Servers beyond loopback are reached over TLS. Changes take effect when the agent starts to serve.
        """
        self.identity: IdentityFiles | None = None
        """Where the certificate of an enrolled agent is, which the agent then renews. Sets no `credentials`."""
        self.journal: JournalPolicy | None = JournalPolicy(default_journal(agent_id))
        """The durable record of the agent's commands; None for none.

        Without one, a crash of the agent loses the results that the server has not acknowledged, and a command that was
        just received may be started a second time. Changes take effect when the agent starts to serve.
        """
        self.orphan_after = 0.0
        """If no server has answered a heartbeat for so many seconds, the agent stops all work; 0 means never.

        The commands end as `timeout`, reason `orphaned`, reported once a server is reachable. Changes take effect when
        the agent starts to serve.
        """
        self.policy_file: Path | None = None
        """Policy file with the command types that this host permits. Read when the agent starts to serve, and again
        when it changes.
        """
        self.signatures: SignaturePolicy | None = None
        """Whose signatures count, and which commands must have one; None to ignore signatures.

        Needs a journal if commands must be signed: none may start twice. Changes take effect when the agent starts to
        serve.
        """
        self._table = HandlerTable({PING: ping_handler(agent_id)}, {PING}, stop_grace)
        self._exec = ExecHandler(exec_policy) if exec_policy else None
        if self._exec and exec_policy:
            self._table.handlers[EXEC] = self._exec
            self._table.inline.add(EXEC)
            # EXEC kills its programs after their own grace period; the rest is up to the system.
            self._table.stop_graces[EXEC] = exec_policy.stop_grace + KILLED_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._runtime: AgentRuntime | None = None
        self._serving = False
        self._signals = 0

    def handler(self, command_type: str) -> Callable[[H], H]:
        """Decorator: run commands of `command_type` with this function, async or not. One handler per type."""

        def register(handler: H) -> H:
            self.add_handler(command_type, handler)
            return handler

        return register

    def add_handler(self, command_type: str, handler: AnyHandler) -> None:
        """Add a handler, like the decorator `handler`.

        Raises ConfigurationError for an invalid or taken type, more than 100 types, or an unsuitable handler.
        """
        if not COMMAND_TYPE_PATTERN.fullmatch(command_type):
            raise ConfigurationError(
                f"a command type must be a letter and up to 63 of A-Z a-z 0-9 . _ -, not {command_type!r}"
            )
        if command_type in self._table.handlers or command_type == STOP:
            raise ConfigurationError(f"there is already a handler for {command_type}")
        if len(self._table.handlers) + 1 >= MAX_TYPES:
            raise ConfigurationError(f"an agent can have handlers for at most {MAX_TYPES} types")
        if not callable(handler) or inspect.isasyncgenfunction(handler) or inspect.isgeneratorfunction(handler):
            raise ConfigurationError(f"the handler for {command_type} must be a function, and must not yield")
        self._table.handlers[command_type] = handler

    def run(self) -> None:
        """Serve until a STOP command, the server, SIGTERM or SIGINT ends it.

        The first signal gives running work up to 30 s to finish, the second cancels it, and the third ends the process
        at once. Logs to stderr unless the program has set up `logging`.
        Raises InvalidArgument if the server permanently refuses this agent, and ConfigurationError if its journal
        cannot be opened.
        """
        ensure_log_handler()
        with asyncio.Runner(loop_factory=WatchedLoop) as runner:
            runner.run(self._serve_with_signals())

    async def serve(self) -> None:
        """Serve like `run()`, but on the running loop and without signal handlers, until `stop()`.

        Raises FailedPrecondition if it is already serving, and ConfigurationError if its journal cannot be opened, its
        policy file has a fault, or signatures are required without a journal.
        """
        if self._serving:
            raise FailedPrecondition("the agent is serving already")
        if self.signatures and self.signatures.required and not self.journal:
            raise ConfigurationError("required signatures need a journal: without one, a command could start twice")
        self._serving = True
        self._loop, self._thread = asyncio.get_running_loop(), threading.get_ident()
        table = replace(self._table, handlers=dict(self._table.handlers), inline=set(self._table.inline))
        try:
            with log_context(agent_id=self.agent_id):
                async with AsyncExitStack() as stack:
                    journal = None
                    if self.journal:
                        journal = await stack.enter_async_context(AgentJournal.opened(self.journal, self.agent_id))
                    await self._run(table, journal)
        finally:
            self._runtime, self._serving = None, False

    async def _run(self, table: HandlerTable, journal: AgentJournal | None) -> None:
        profile = self._profile(journal.journal_id if journal else "")
        runtime = self._runtime = AgentRuntime(profile, self.server, table, MessagePacker(self.compression), journal)
        runtime.connect_with(Connector(self.credentials))
        if self.identity:
            runtime.keep_certificate(self.identity)
        runtime.add_inline_handler(STOP, stop_handler(runtime))
        if self.policy_file or self.signatures:
            policy = await asyncio.to_thread(PolicySource, self.policy_file)
            runtime.vet_by(Vetting(self.agent_id, self.labels, policy, self.signatures))
        await runtime.run()

    def stop(self, reason: str = "stopped", *, cancel: bool = False, within: float | None = None) -> None:
        """Leave once running work has ended and its results are acknowledged.

        `cancel` stops running work now, `within` after that many seconds. Thread-safe, so handlers may call it too.
        Raises FailedPrecondition if the agent is not serving.
        """
        runtime, loop = self._runtime, self._loop
        if runtime is None or loop is None:
            raise FailedPrecondition("the agent is not serving")

        def leave() -> None:
            # The caller, such as a signal handler or another task, may lack the log context.
            with log_context(agent_id=self.agent_id):
                runtime.leave(reason, cancel=cancel, within=within)

        if threading.get_ident() == self._thread:
            leave()
        else:
            loop.call_soon_threadsafe(leave)

    def _profile(self, journal_id: str) -> AgentProfile:
        return AgentProfile(
            agent_id=self.agent_id,
            instance_id=uuid.uuid4().hex,
            journal_id=journal_id,
            capacity=self.capacity,
            types=(*self._table.handlers, STOP),
            # STOP is not among them: commands sent before it must start first, so that it finishes or cancels them.
            # Nor is EXEC: a second start would do harm, so its Received goes first.
            inline_types=frozenset({PING}),
            labels=self.labels,
            agent_version=f"distributor/{__version__}",
            accepts_gzip=self.compression.enabled,
            orphan_after=self.orphan_after,
            denied={} if EXEC in self._table.handlers else {EXEC: _EXEC_DENIED},
        )

    async def _serve_with_signals(self) -> None:
        loop, serving = asyncio.get_running_loop(), asyncio.current_task()
        assert serving is not None
        for number in _SIGNALS:
            loop.add_signal_handler(number, self._signalled, number, serving)
        try:
            await self.serve()
        except asyncio.CancelledError:
            if not self._signals:
                raise

    def _signalled(self, number: signal.Signals, serving: asyncio.Task[None]) -> None:
        self._signals += 1
        if self._runtime is None:
            # The journal is being opened, which takes as long as the disk does: nothing runs yet.
            serving.cancel()
            return
        if self._signals > 2:
            if self._exec:
                self._exec.kill_all()
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)
        self.stop(number.name, cancel=self._signals == 2, within=FINISH_SECONDS)
