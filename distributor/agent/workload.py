"""The commands that run now: calls their handlers, and stops them when told."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping

from distributor.agent.actions import StopCause
from distributor.agent.command_context import CommandContext, Handler
from distributor.agent.command_run import CommandRun
from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import now
from distributor.agent.record import CommandRecord
from distributor.observability.logging import get_logger
from distributor.v1 import agent_gateway_pb2 as gateway

logger = get_logger()


class Workload:
    """Starts and stops runs, and notes their results in the record. Owns the tasks of all handlers."""

    def __init__(self, handlers: Mapping[str, Handler], record: CommandRecord, session: CurrentSession) -> None:
        self._handlers = handlers
        self._record = record
        self._session = session
        self._runs: dict[str, CommandRun] = {}

    def start(self, assignment: gateway.Assignment) -> None:
        """Call the handler of a command that the record holds."""
        command = assignment.command
        held = self._record.get(command.command_id)
        if held is None:
            raise RuntimeError(f"command {command.command_id} is not in the record")
        context = CommandContext(assignment, held.window, self._session)
        run = CommandRun(held, context, self._handlers[command.type], self._session.max_result_bytes)
        self._runs[command.command_id] = run
        run.start(self._ended)
        logger.debug("started", command_id=held.command_id, attempt=assignment.attempt, type=command.type)

    def stop(self, command_id: str, cause: StopCause) -> None:
        """Ask the command to end, if it runs."""
        run = self._runs.get(command_id)
        if run:
            logger.info("stopping", command_id=command_id, attempt=run.context.attempt, cause=cause.value)
            run.stop(cause)

    def stop_all(self, cause: StopCause, excluded_types: Iterable[str] = ()) -> None:
        """Ask every command to end but those of `excluded_types`."""
        for run in self._others(excluded_types):
            self.stop(run.held.command_id, cause)

    def output_room(self, command_id: str) -> None:
        """The command may write output again."""
        run = self._runs.get(command_id)
        if run:
            run.context.output_room()

    async def ended(self, excluded_types: Iterable[str] = ()) -> None:
        """Wait until nothing runs but commands of `excluded_types`."""
        while others := self._others(excluded_types):
            await asyncio.wait([run.task for run in others])

    def _others(self, excluded_types: Iterable[str]) -> list[CommandRun]:
        excluded = frozenset(excluded_types)
        return [run for run in self._runs.values() if run.context.type not in excluded]

    def _ended(self, run: CommandRun, result: gateway.Result) -> None:
        del self._runs[run.held.command_id]
        self._record.finish(result)
        self._session.finished(run.held.command_id, now())
