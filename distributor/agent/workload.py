"""The running commands: calls their handlers and stops them."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from typing import Final, cast

from distributor.agent import result as results
from distributor.agent.actions import StopCause
from distributor.agent.command_context import AnyHandler, BlockingContext, BlockingHandler, CommandContext, Handler
from distributor.agent.command_run import CommandRun, RunLimits
from distributor.agent.current_session import CurrentSession, host_load
from distributor.agent.gateway_stream import now
from distributor.agent.handler_call import LoopCall, ThreadCall
from distributor.agent.handler_loop import HandlerLoop
from distributor.agent.orphans import mark_of
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.agent.vitals import Silence, Vitals
from distributor.model.command import Reason
from distributor.observability.logging import get_logger
from distributor.tasks import stop_tasks
from distributor.timeouts import Timeouts
from distributor.v1 import agent_gateway_pb2 as gateway

logger = get_logger()

STOP_GRACE_SECONDS = 5.0
"""Default limit for a handler to stop."""

WATCH_SECONDS: Final = 0.05
"""Shortest time between two looks at a loop on which a handler did not stop."""

LAG_WAIT_SECONDS: Final = 0.1
"""How long a heartbeat waits for the handlers' loop to answer."""

LAG_PROBLEM_SECONDS: Final = 1.0
"""Lag of the handlers' loop that makes the agent degraded."""


@dataclass(slots=True)
class HandlerTable:
    """The handlers of an agent by command type, and how to run them."""

    handlers: dict[str, AnyHandler] = field(default_factory=dict)
    inline: set[str] = field(default_factory=set)
    """Types whose coroutine handlers never block: they run on the connection's own loop."""
    stop_grace: float = STOP_GRACE_SECONDS
    stop_graces: dict[str, float] = field(default_factory=dict)
    """Overrides by command type."""

    def grace_of(self, command_type: str) -> float:
        """Seconds that a handler of this type may take to stop."""
        return self.stop_graces.get(command_type, self.stop_grace)


class Workload:
    """Starts and stops runs, and notes their results in the record. Belongs to the connection's loop.

    Owns the handlers' loop. If a handler blocks the loop beyond its stop grace, new commands get a new loop.
    """

    def __init__(self, table: HandlerTable, record: CommandRecord, session: CurrentSession) -> None:
        self._table = table
        self._record = record
        self._session = session
        self.working = asyncio.Event()
        """Set while a command runs."""
        self._runs: dict[str, CommandRun] = {}
        self._loop: HandlerLoop | None = None
        self._blocked: list[HandlerLoop] = []
        self._loop_calls: dict[str, LoopCall] = {}
        self._watching: dict[CommandRun, asyncio.Task[None]] = {}
        loop = asyncio.get_running_loop()
        self._limits = RunLimits(Timeouts(loop, _exceeded), Timeouts(loop, CommandRun.check_idle))
        self._is_coroutine: dict[str, bool] = {}
        """By command type, for those called so far."""
        # Bound once: the logger of a module looks up its configuration for each line.
        self._logger = logger.bind()

    def start(self, assignment: gateway.Assignment) -> None:
        """Call the handler of a command in the record. A command whose handler cannot be called fails."""
        command = assignment.command
        held = self._record.get(command.command_id)
        if held is None:
            raise RuntimeError(f"command {command.command_id} is not in the record")
        try:
            run = self._run(assignment, held)
        except Exception as error:
            self._logger.error("the handler cannot be called", command_id=held.command_id, exc_info=error)
            self._finish(results.not_started(held, error))
            return
        self._runs[command.command_id] = run
        self.working.set()
        run.context.run_id = held.run
        run.context.on_extend = self._extend_soon
        run.context.on_program = self._program_started
        run.start(self._ended, self._released, self._overdue)
        self._logger.debug("started", command_id=held.command_id, attempt=assignment.attempt, type=command.type)

    def stop(self, command_id: str, cause: StopCause) -> None:
        """Ask the command to end, if it runs."""
        run = self._runs.get(command_id)
        if run:
            logger.info("stopping", command_id=command_id, attempt=run.context.attempt, cause=cause.value)
            run.stop(cause)

    async def vitals(self) -> Vitals:
        """Measure how the agent is doing; takes at most LAG_WAIT_SECONDS."""
        lag = await self._loop.lag(LAG_WAIT_SECONDS) if self._loop else 0.0
        silences = [Silence(command_id, run.context.silence()) for command_id, run in self._runs.items()]
        return Vitals(host_load(), lag, silences, self._problems(lag))

    def _problems(self, lag: float) -> list[Reason]:
        problems = []
        if lag >= LAG_PROBLEM_SECONDS:
            problems.append(Reason("handler_lag", f"the event loop of the handlers was {lag:.1f} s late"))
        stuck = self._record.stuck + sum(run.overdue for run in self._runs.values())
        if stuck:
            problems.append(Reason("would_not_stop", f"handlers that do not stop: {stuck}"))
        return problems

    def stop_all(self, cause: StopCause, excluded_types: Iterable[str] = ()) -> None:
        """Ask every command to end but those of `excluded_types`."""
        for run in self._others(excluded_types):
            self.stop(run.held.command_id, cause)

    def notify_room(self, command_id: str) -> None:
        """Report that the command may write output again."""
        run = self._runs.get(command_id)
        if run:
            run.context.notify_room()

    async def ended(self, excluded_types: Iterable[str] = ()) -> None:
        """Wait until nothing runs but commands of `excluded_types`; for an agent that leaves.

        Handlers that do not stop are not waited for: once only they are left, their commands fail.
        """
        while others := self._others(excluded_types):
            await asyncio.gather(*(run.settled() for run in others))
            if all(run.overdue for run in others):
                for run in others:
                    run.stop(StopCause.AGENT_STOPPED)

    async def close(self) -> None:
        """End the handlers' loops. A blocked one is abandoned in its daemon thread."""
        await stop_tasks(self._watching.values())
        self._watching.clear()
        self._limits.time.close()
        self._limits.idle.close()
        loops = [*self._blocked, *([self._loop] if self._loop else [])]
        self._loop, self._blocked = None, []
        if not all(await asyncio.gather(*(loop.close() for loop in loops))):
            logger.warning("left with handlers that do not stop")

    def _run(self, assignment: gateway.Assignment, held: RecordedCommand) -> CommandRun:
        command_type = assignment.command.type
        handler, most = self._table.handlers[command_type], self._session.max_result_bytes
        grace = self._table.grace_of(command_type)
        if command_type not in self._is_coroutine:
            self._is_coroutine[command_type] = is_coroutine_handler(handler)
        # Outside the signature: a server could have a signed command run again and again.
        held.rerun_reasons = frozenset() if held.signature else frozenset(assignment.command.max_runs_by_reason)
        if not self._is_coroutine[command_type]:
            blocking = BlockingContext(assignment, held.window, self._session)
            thread_call = ThreadCall(cast(BlockingHandler, handler), blocking, held, most, self._session.home)
            return CommandRun(held, blocking, thread_call, grace, self._limits)
        loop = None if command_type in self._table.inline else self._handler_loop()
        context = CommandContext(assignment, held.window, self._session, loop.loop if loop else None)
        call = LoopCall(cast(Handler, handler), context, held, most, loop)
        if loop:
            self._loop_calls[held.command_id] = call
        return CommandRun(held, context, call, grace, self._limits)

    def _handler_loop(self) -> HandlerLoop:
        if self._loop is None:
            self._loop = HandlerLoop(self._session.home)
        return self._loop

    def _others(self, excluded_types: Iterable[str]) -> list[CommandRun]:
        excluded = frozenset(excluded_types)
        return [run for run in self._runs.values() if run.context.type not in excluded]

    def _ended(self, run: CommandRun, result: gateway.Result) -> None:
        command_id = run.held.command_id
        if run.abandoned:
            self._record.stuck += 0 if run.held.control else run.held.slots
            self._keep_loop_free(run)
        else:
            self._stop_watching(run)
        del self._runs[command_id]
        if not self._runs:
            self.working.clear()
        self._loop_calls.pop(command_id, None)
        self._finish(result)

    def _finish(self, result: gateway.Result) -> None:
        self._record.finish(result)
        self._session.finished(result.command_id, now())

    def _overdue(self, run: CommandRun) -> None:
        self._keep_loop_free(run)
        self._session.could_not_stop(run.held.command_id, run.survivors)

    def _keep_loop_free(self, run: CommandRun) -> None:
        """Let new commands run although a handler on the loop does not stop."""
        command_id = run.held.command_id
        call = self._loop_calls.get(command_id)
        if call is None or call.handlers is not self._loop or run in self._watching:
            return
        if run.blocks_its_loop:
            self._replace_loop(command_id)
        else:
            grace = self._table.grace_of(run.context.type)
            self._watching[run] = asyncio.create_task(self._watch(command_id, max(grace, WATCH_SECONDS)))

    def _stop_watching(self, run: CommandRun) -> None:
        watch = self._watching.pop(run, None)
        if watch:
            watch.cancel()

    def _program_started(self, command_id: str, pid: int) -> None:
        mark = mark_of(pid)
        if mark:
            self._record.runs_in(command_id, mark)

    def _extend_soon(self, command_id: str, time_limit: float) -> None:
        """Extend a run; called on any thread."""
        self._session.home.post(partial(self._extend, command_id, time_limit))

    def _extend(self, command_id: str, time_limit: float) -> None:
        run = self._runs.get(command_id)
        if run and run.extend(time_limit):
            self._session.extended(command_id)

    async def _watch(self, command_id: str, seconds: float) -> None:
        """Replace the handlers' loop should a handler that did not stop block it later."""
        loop = self._loop
        while loop is not None and loop is self._loop:
            if not await loop.answers(seconds) and loop is self._loop:
                self._replace_loop(command_id)
            await asyncio.sleep(seconds)

    def _replace_loop(self, command_id: str) -> None:
        logger.error("a handler blocks the event loop; new commands get a new one", command_id=command_id)
        blocked, self._loop = self._loop, None
        assert blocked is not None
        self._blocked.append(blocked)
        for call in self._loop_calls.values():
            if call.handlers is blocked:
                call.move(self._handler_loop())

    def _released(self, run: CommandRun) -> None:
        self._stop_watching(run)
        self._record.stuck -= 0 if run.held.control else run.held.slots
        self._session.room_changed(now())


def _exceeded(run: CommandRun) -> None:
    run.stop(StopCause.TIME_LIMIT)


def is_coroutine_handler(handler: AnyHandler) -> bool:
    """Whether a handler runs on the event loop; a plain function runs in a thread."""
    return inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(type(handler).__call__)
