"""Waits for commands to end, with or without following their output."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import aclosing, contextmanager
from typing import Final

from distributor.cli.exit_codes import ExitCode
from distributor.cli.sender import tables
from distributor.cli.sender.output_views import view_of
from distributor.cli.sender.passthrough import PassedCode, passthrough_code
from distributor.cli.sender.presence_monitor import PresenceMonitor
from distributor.cli.sender.progress import CompletionProgress
from distributor.cli.sender.screen import Screen
from distributor.cli.sender.send_options import WaitOptions
from distributor.client import CommandClient, CommandResult, CommandState, CommandStatus, OutputGap, Update
from distributor.wire.documents import result_document

_RESULTS_AT_ONCE: Final = 32


class CommandWait:
    """One wait for commands. If it ends early, it leaves the commands alone and reports which have not ended."""

    def __init__(self, client: CommandClient, screen: Screen, command_ids: Sequence[str], options: WaitOptions) -> None:
        self._client = client
        self._screen = screen
        self._ids = list(dict.fromkeys(command_ids))
        self._options = options
        self._statuses: dict[str, CommandStatus] = {}
        """The latest known status of each command."""
        self._agents: dict[str, str] = {}
        self._results: dict[str, CommandResult] = {}
        self._presence_monitor = PresenceMonitor(client, screen, self._busy_agents)
        self._lost: Counter[str] = Counter()
        """Lost bytes of output per command."""

    async def run(self) -> ExitCode | int:
        """Wait, show how the commands ended, and return the exit code."""
        presence_monitor = asyncio.create_task(self._presence_monitor.run())
        try:
            await (self._follow() if self._options.follow else self._wait())
        except asyncio.CancelledError:
            self._screen.message(f"interrupted{self._unended_text()}")
            raise
        except BrokenPipeError:
            if unended := self._unended_text():
                self._screen.message(f"the reader of standard output exited{unended}")
            raise
        except TimeoutError as error:
            self._show_results()
            self._screen.error(f"{error}{self._unended_text()}")
            return PassedCode.TIMEOUT if self._options.passthrough_exit_code else ExitCode.TIMEOUT
        finally:
            presence_monitor.cancel()
        self._show_results()
        return self._exit_code()

    async def _wait(self) -> None:
        if len(self._ids) == 1:
            await self._wait_for_one(self._ids[0])
            return
        with CompletionProgress(self._screen, len(self._ids)) as progress, _unwrapped_errors():
            async with asyncio.TaskGroup() as fetches:
                timeout = await self._fetch_as_they_end(progress, fetches)
            if timeout is not None:
                raise timeout

    async def _wait_for_one(self, command_id: str) -> None:
        updates = self._client.watch(command_id, with_output=False, timeout_seconds=self._options.timeout)
        async with aclosing(updates):
            async for update in updates:
                self._note(command_id, update)

    async def _fetch_as_they_end(self, progress: CompletionProgress, fetches: asyncio.TaskGroup) -> TimeoutError | None:
        """Fetch each result when its command ends. A timeout is returned, not raised, so that fetches complete."""
        room = asyncio.Semaphore(_RESULTS_AT_ONCE)
        try:
            async with aclosing(self._client.watch_many(self._ids, self._options.timeout)) as states:
                async for state in states:
                    self._note(state.command_id, state)
                    if state.status.terminal:
                        progress.ended(state.status)
                        await room.acquire()
                        fetch = fetches.create_task(self._fetch(state.command_id))
                        fetch.add_done_callback(lambda _: room.release())
        except TimeoutError as error:
            return error
        return None

    async def _fetch(self, command_id: str) -> None:
        result = await self._client.result(command_id)
        self._results[command_id] = result
        if self._screen.format == "jsonl":
            self._screen.record(result_document(result))

    async def _follow(self) -> None:
        if len(self._ids) == 1:
            await self._follow_one(self._ids[0])
            return
        with CompletionProgress(self._screen, len(self._ids)) as progress, _unwrapped_errors():
            async with asyncio.TaskGroup() as tasks:
                for command_id in self._ids:
                    tasks.create_task(self._follow_one(command_id, progress))

    async def _follow_one(self, command_id: str, progress: CompletionProgress | None = None) -> None:
        # A command that has ended sends its output before its state, and each line names the agent.
        agent_id = (await self._client.get(command_id)).state.agent_id if progress and self._screen.for_people else ""
        view = view_of(self._screen, command_id, agent_id)
        updates = self._client.watch(
            command_id, hold_output=self._options.holds_output(len(self._ids)), timeout_seconds=self._options.timeout
        )
        async with aclosing(updates):
            try:
                async for update in updates:
                    self._note(command_id, update)
                    view.show(update)
                    if progress and isinstance(update, CommandResult):
                        progress.ended(update.status)
            finally:
                view.close()

    def _note(self, command_id: str, update: Update) -> None:
        match update:
            case CommandState():
                self._agents[command_id] = update.agent_id
                self._statuses[command_id] = update.status
                if update.status is CommandStatus.ASSIGNED and update.agent and update.agent.away_since_ms:
                    self._presence_monitor.report_away(update.agent_id, update.agent.away_since_ms)
            case CommandResult():
                self._statuses[command_id] = update.status
                self._results[command_id] = update
            case OutputGap():
                self._lost[command_id] += update.end_offset - update.begin_offset

    def _busy_agents(self) -> list[str]:
        """The agents known to be running one of the commands."""
        return [agent for one, agent in self._agents.items() if self._statuses[one] is CommandStatus.ASSIGNED]

    def _show_results(self) -> None:
        """Show results, unless they were shown live."""
        results = [self._results[one] for one in self._ids if one in self._results]
        if self._options.follow or not results:
            return
        match self._screen.format:
            case "table" if len(self._ids) == 1:
                self._screen.text(tables.result_text(self._screen, results[0]))
            case "table":
                self._screen.text(tables.results_table(self._screen, results))
            case "json":
                forms = [result_document(result) for result in results]
                self._screen.document(forms[0] if len(self._ids) == 1 else forms)
            case "jsonl" if len(self._ids) == 1:
                self._screen.record(result_document(results[0]))

    def _exit_code(self) -> ExitCode | int:
        if self._lost:
            lost = f"{self._lost.total():,} bytes of output"
            self._screen.error(
                f"{lost} of {tables.count_of(len(self._lost), 'command')} were lost before they were read"
            )
        if self._options.passthrough_exit_code:
            return passthrough_code(self._results[self._ids[0]], output_lost=bool(self._lost))
        if any(result.status is not CommandStatus.COMPLETED for result in self._results.values()):
            return ExitCode.FAILED
        return ExitCode.OUTPUT_LOST if self._lost else ExitCode.SUCCESS

    def _unended_text(self) -> str:
        """The commands not known to have ended, with their statuses, as the end of a message."""
        statuses = ((one, self._statuses.get(one)) for one in self._ids)
        unended = [
            one if status is None else f"{one} ({status})"
            for one, status in statuses
            if status is None or not status.terminal
        ]
        return f"; not ended: {tables.some_of(unended)}" if unended else ""


@contextmanager
def _unwrapped_errors() -> Iterator[None]:
    """Raise the first error of a task group by itself: the others have the same cause."""
    try:
        yield
    except BaseExceptionGroup as group:
        raise group.exceptions[0] from None
