"""The journal of a serving agent: restores the record, keeps it written, and settles what a crash left behind."""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Self

from distributor.agent.halt_memory import RememberedHalt
from distributor.agent.journal import damaged
from distributor.agent.journal_entries import JournalContents, Stage
from distributor.agent.journal_policy import JournalPolicy, Orphans
from distributor.agent.journal_thread import JournalThread
from distributor.agent.journal_writer import CLOSE_SECONDS, JournalWriter
from distributor.agent.orphans import RunTrace, end_orphans, find_orphans
from distributor.agent.output_window import Chunk
from distributor.agent.process_table import Process
from distributor.agent.record import REMEMBERED_RESULT_BYTES, CommandRecord, RecordedCommand
from distributor.agent.survivors import surviving
from distributor.observability.logging import get_logger
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.limits import MAX_SURVIVORS

logger = get_logger()

OUTCOME_UNKNOWN: Final = "outcome_unknown"


class AgentJournal:
    """An open journal with the record that it restored. Belongs to the connection's loop."""

    def __init__(self, policy: JournalPolicy, thread: JournalThread, contents: JournalContents) -> None:
        self.journal_id = contents.journal_id
        self.record = CommandRecord(durable=True, remembered_bytes=min(REMEMBERED_RESULT_BYTES, policy.max_bytes // 8))
        if contents.halt:
            self.record.halt.restore(RememberedHalt(*contents.halt))
            logger.warning("this agent is halted until a server resumes it", stop_id=contents.halt[0])
        self._policy = policy
        self._same_boot = contents.same_boot
        self.writer = JournalWriter(self.record, thread)
        if contents.problem:
            self.writer.cannot_write(contents.problem)
        self._unfinished = self._restore(contents)
        """Commands that an earlier process started and did not finish."""
        self._traces: dict[str, RunTrace] = {}
        self._orphans: dict[str, list[Process]] = {}

    @classmethod
    @asynccontextmanager
    async def opened(cls, policy: JournalPolicy, agent_id: str) -> AsyncIterator[Self]:
        """Open the journal for the life of the agent. Raises ConfigurationError as `Journal.open` does."""
        thread = JournalThread()
        contents = await thread.open(policy, agent_id)
        try:
            journal = cls(policy, thread, contents)
        except Exception as error:
            await thread.close(CLOSE_SECONDS)
            raise damaged(policy.path, error) from error
        try:
            await journal.look_for_orphans()
            yield journal
        finally:
            await journal.writer.close()

    async def look_for_orphans(self) -> None:
        """Find the processes that unfinished commands left; finish those commands that left none."""
        if not self._unfinished:
            return
        self._traces = {held.command_id: RunTrace(held.run, held.process) for held in self._unfinished}
        # After a restart of the host there is none, and their ids may be those of other processes.
        self._orphans = await asyncio.to_thread(find_orphans, self._traces) if self._same_boot else {}
        for held in self._unfinished:
            if held.command_id not in self._orphans:
                self._finish(held, (), ())

    async def settle(self) -> AsyncIterator[str]:
        """End the orphans, or report them, as the policy says; yield the id of each command that has ended."""
        orphans, self._orphans = self._orphans, {}
        settling = [self._end(command_id, processes) for command_id, processes in orphans.items()]
        for ended in asyncio.as_completed(settling):
            yield await ended

    async def _end(self, command_id: str, orphans: Sequence[Process]) -> str:
        survivors = orphans
        if self._policy.orphans is Orphans.END:
            orphans, survivors = await end_orphans(self._traces[command_id], orphans, self._policy.stop_grace)
        held = self.record.get(command_id)
        # The server may have given it up meanwhile.
        if held and held.running:
            self._finish(held, orphans, survivors)
        return command_id

    def _finish(self, held: RecordedCommand, orphans: Sequence[Process], survivors: Sequence[Process]) -> None:
        """Record that the outcome of a command is unknown. It is never started again."""
        logger.warning(
            "a command was running when the agent ended",
            command_id=held.command_id,
            orphans=[orphan.pid for orphan in orphans],
            survivors=[survivor.pid for survivor in survivors],
        )
        self.record.finish(_outcome_unknown(held, orphans, survivors))

    def _restore(self, contents: JournalContents) -> list[RecordedCommand]:
        output: defaultdict[str, list[Chunk]] = defaultdict(list)
        for piece in contents.output:
            output[piece.command_id].append(Chunk(command_pb2.OutputStream.ValueType(piece.stream), *piece[1::2]))
        self.record.signatures.restore(contents.signatures)
        self.record.checkpoints.restore(contents.checkpoints)
        unfinished = []
        for entry in contents.commands:
            held = self.record.restore(entry, output[entry.command_id])
            if held:
                self.writer.restored(held)
            if held and entry.stage is Stage.STARTED:
                unfinished.append(held)
        if self.record.size:
            logger.info("restored commands from the journal", commands=self.record.size, unfinished=len(unfinished))
        return unfinished


def _outcome_unknown(held: RecordedCommand, orphans: Sequence[Process], survivors: Sequence[Process]) -> gateway.Result:
    result = gateway.Result(
        command_id=held.command_id,
        status=command_pb2.COMMAND_STATUS_FAILED,
        output_bytes=held.output_bytes,
        survivors=surviving(survivors),
    )
    result.reason.code = OUTCOME_UNKNOWN
    result.reason.message = (
        "the agent's process ended while the command was running, so it may have run in part or in full, and the end "
        f"of its output may be missing; {_fate(orphans, survivors)}"
    )
    return result


def _fate(orphans: Sequence[Process], survivors: Sequence[Process]) -> str:
    if survivors:
        pids = ", ".join(str(one.pid) for one in survivors[:MAX_SURVIVORS])
        return f"{len(survivors)} of its processes still run: {pids}"
    if orphans:
        return f"{len(orphans)} of its processes outlived the agent and were ended"
    return "none of its processes outlived the agent"
