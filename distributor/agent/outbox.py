"""The parts waiting to be sent on one stream; everything ready goes into one message.

A message costs about 100 µs of CPU whatever its size, so the Received, Started and Result of short commands are sent
together.
"""

from __future__ import annotations

from collections import deque
from collections.abc import MutableSequence, Set
from typing import Final, TypeVar

from distributor.agent.halted_report import halted_report
from distributor.agent.output_window import Chunk
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.v1 import agent_gateway_pb2 as gateway

P = TypeVar("P")
R = TypeVar("R", gateway.Refused, gateway.CancelReport)

MAX_PARTS: Final = 20
"""Limit of parts of each kind in one message, set by the protocol."""

MAX_OUTPUT_BYTES: Final = 256 * 1024
"""Output in one message; bounds how long output delays the next heartbeat and result."""

MAX_RESULT_BYTES: Final = 4 * 1024 * 1024
"""Results in one message, which keeps it below the size limit of the transport."""


class Outbox:
    """The parts ready for the next messages of one stream. Does no I/O."""

    def __init__(self, record: CommandRecord) -> None:
        self.heartbeat: gateway.Heartbeat | None = None
        self.received: list[gateway.Received] = []
        self.started: list[gateway.Started] = []
        self.refused: list[gateway.Refused] = []
        self.cancel_reports: list[gateway.CancelReport] = []
        self.halt_due = False
        """Whether to say what runs under the emergency stop in force."""
        self._record = record
        self._results: deque[str] = deque()
        self.sent_results: dict[str, None] = {}
        """Results sent on this stream and not acknowledged yet."""
        self._with_output: dict[str, None] = {}
        self._extended: dict[str, None] = {}
        self._after_journal: set[str] = set()

    @property
    def pending_received(self) -> list[str]:
        """Commands whose Received is still waiting."""
        return [received.command_id for received in self.received]

    @property
    def reports_wait(self) -> bool:
        """Whether reports wait for the journal."""
        return bool(self._after_journal)

    @property
    def can_gather(self) -> bool:
        """Whether what waits may wait a little longer: only Started, Output and Results, within one message."""
        if self.heartbeat is not None or self.halt_due or self.refused or self.cancel_reports or self._extended:
            return False
        if self.received and self._written_received():
            return False
        return 0 < max(len(self.started), len(self._results), len(self._with_output)) <= MAX_PARTS

    def after_journal(self, command_id: str) -> None:
        """Send no report that the command has not started until the journal has its latest change.

        After a crash, the journal would say that it had.
        """
        self._after_journal.add(command_id)

    def take_back_received(self, command_id: str) -> bool:
        """Do not send the command's Received; return False if none waits."""
        before = len(self.received)
        self.received = [part for part in self.received if part.command_id != command_id]
        return len(self.received) < before

    def add_output(self, command_id: str) -> None:
        """Note that the command has output to send."""
        self._with_output[command_id] = None

    def add_extension(self, command_id: str) -> None:
        """Note that the command's time limit was extended. It is sent before the command's result."""
        self._extended[command_id] = None

    def has_result(self, command_id: str) -> bool:
        """Whether the command's result waits to be sent."""
        return command_id in self._results

    def add_result(self, command_id: str) -> None:
        """Note that the command has a result to send. It is sent after all of the command's output.

        Of one that was sent under an earlier lease no answer counts any more.
        """
        self.sent_results.pop(command_id, None)
        self._results.append(command_id)

    def result_ready(self, command_id: str) -> bool:
        """Whether the command's result can be sent: its output was, and the journal has it."""
        held = self._record.get(command_id)
        ready = held is not None and held.result is not None and not held.window.unsent
        ready = ready and command_id not in (*self.pending_received, *(one.command_id for one in self.started))
        return ready and self.has_result(command_id) and self._record.is_written(command_id)

    def take_result(self, command_id: str) -> gateway.Result:
        """Take a result that is ready. Raises ValueError for another."""
        held = self._record.get(command_id)
        if held is None or held.result is None:
            raise ValueError(f"no result of {command_id}")
        self._results.remove(command_id)
        self.sent_results[command_id] = None
        return held.result

    def take_heartbeat(self) -> gateway.Heartbeat | None:
        """Take the heartbeat that waits, if any."""
        heartbeat, self.heartbeat = self.heartbeat, None
        return heartbeat

    def take(self, max_chunk_bytes: int, output_limit: int) -> gateway.ConnectRequest | None:
        """Take the next message, or None if nothing waits. `output_limit` bounds a command's unacknowledged output."""
        message = gateway.ConnectRequest()
        heartbeat = self.take_heartbeat()
        if heartbeat is not None:
            message.heartbeat.CopyFrom(heartbeat)
        self._release_reports()
        self._move_reports(self.cancel_reports, message.cancel_reports)
        _move(self.received, message.received, self._written_received())
        self._move_reports(self.refused, message.refused)
        # The parts of a message are read in order, so they may share one, but a Started must not overtake its own
        # Received, nor Output and Result their Started. Those of other commands need not wait.
        behind = set(self.pending_received)
        self._take_started(message, behind)
        behind.update(started.command_id for started in self.started)
        self._take_extensions(message, behind)
        self._take_output(message, max_chunk_bytes, output_limit, behind)
        behind.update(self._extended)
        self._take_results(message, behind)
        if self.halt_due:
            self._take_halted(message)
        return message if message.ListFields() else None

    def _take_halted(self, message: gateway.ConnectRequest) -> None:
        """Say that nothing runs only with the results of what ran, or after them."""
        halted = halted_report(self._record)
        if halted is not None and (halted.running or not self._results):
            message.halted.CopyFrom(halted)
            self.halt_due = False

    def _take_started(self, message: gateway.ConnectRequest, behind: Set[str]) -> None:
        if not behind:
            _move(self.started, message.started)
            return
        ready = [started for started in self.started if started.command_id not in behind][:MAX_PARTS]
        message.started.extend(ready)
        taken = {started.command_id for started in ready}
        self.started = [started for started in self.started if started.command_id not in taken]

    def _release_reports(self) -> None:
        written = self._record.unwritten.written
        self._after_journal = {command_id for command_id in self._after_journal if not written(command_id)}

    def _move_reports(self, waiting: list[R], into: MutableSequence[R]) -> None:
        if not self._after_journal:
            _move(waiting, into)
            return
        ready = [report for report in waiting if report.command_id not in self._after_journal][:MAX_PARTS]
        into.extend(ready)
        waiting[:] = [report for report in waiting if report not in ready]

    def _written_received(self) -> int:
        """How many Received may leave now: the journal must have their commands first."""
        for count, received in enumerate(self.received[:MAX_PARTS]):
            if not self._record.is_written(received.command_id):
                return count
        return MAX_PARTS

    def _take_extensions(self, message: gateway.ConnectRequest, behind: Set[str]) -> None:
        for command_id in [one for one in self._extended if one not in behind][:MAX_PARTS]:
            del self._extended[command_id]
            held = self._record.get(command_id)
            if held and not held.disowned:
                extension = message.extensions.add(command_id=command_id, lease_id=held.lease_id)
                extension.time_limit.FromNanoseconds(int(held.extended_limit * 1e9))

    def _take_output(
        self, message: gateway.ConnectRequest, max_chunk_bytes: int, output_limit: int, behind: Set[str]
    ) -> None:
        budget = MAX_OUTPUT_BYTES
        waiting = [command_id for command_id in behind if command_id in self._with_output]
        for command_id in waiting:
            del self._with_output[command_id]
        while self._with_output and budget > 0 and len(message.output) < MAX_PARTS:
            command_id = next(iter(self._with_output))
            del self._with_output[command_id]
            held = self._record.get(command_id)
            if not held or held.disowned:
                continue
            # At the limit, the acknowledgement that makes room brings the command back here.
            chunk = held.window.take(min(max_chunk_bytes, budget, held.window.sendable(output_limit)))
            if chunk:
                budget -= len(chunk.data)
                message.output.append(_output(held, chunk))
                if held.window.unsent:
                    # Move it to the end, so that a chatty command does not starve the others.
                    self._with_output[command_id] = None
        self._with_output.update(dict.fromkeys(waiting))

    def _take_results(self, message: gateway.ConnectRequest, behind: Set[str]) -> None:
        budget = MAX_RESULT_BYTES
        for _ in range(len(self._results)):
            if len(message.results) >= MAX_PARTS or budget <= 0:
                return
            command_id = self._results.popleft()
            held = self._record.get(command_id)
            if not held or not held.result:
                continue
            size = held.result.ByteSize()
            waits = held.window.unsent or not self._record.is_written(command_id)
            # Suspects are sent by their trial.
            waits = waits or command_id in self._record.suspects or command_id in behind
            if waits or (size > budget and message.results):
                self._results.append(command_id)
                continue
            budget -= size
            message.results.append(held.result)
            self.sent_results[command_id] = None


def _move(waiting: list[P], into: MutableSequence[P], most: int = MAX_PARTS) -> None:
    """Move parts of one kind, as many as a message may have, in one go."""
    if waiting:
        into.extend(waiting[:most])
        del waiting[:most]


def _output(held: RecordedCommand, chunk: Chunk) -> gateway.Output:
    return gateway.Output(
        command_id=held.command_id,
        lease_id=held.lease_id,
        stream=chunk.stream,
        offset=chunk.offset - held.output_base,
        data=chunk.data,
    )
