"""The record of the commands that this agent received, started, finished and saw acknowledged.

The record is in memory. If it is `durable`, it also notes which commands changed; what writes the journal asks for
their entries, and after a restart of the agent `restore` puts them back. Nothing else in the package remembers command
ids.
"""

from __future__ import annotations

import secrets
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final, NamedTuple

from distributor.agent.halt_memory import HaltMemory
from distributor.agent.journal_entries import CommandEntry, ProcessMark, SeenSignature, Stage
from distributor.agent.output_window import Chunk, OutputWindow
from distributor.agent.remembered_checkpoints import RememberedCheckpoints
from distributor.agent.seen_signatures import SeenSignatures
from distributor.agent.unwritten import UnwrittenChanges
from distributor.model.command import Reason
from distributor.v1 import agent_gateway_pb2 as gateway

REMEMBERED: Final = 10_000
"""Ids of ended commands kept to refuse duplicates; the oldest go first."""

REMEMBERED_RESULT_BYTES: Final = 4 * 1024 * 1024
"""Results of ended commands kept to answer a command that is delivered again; the oldest go first."""


class PendingStart(NamedTuple):
    """A command whose handler starts once its Received is on the wire, if it is still fresh then."""

    assignment: gateway.Assignment
    fresh_until: float


@dataclass(slots=True)
class RecordedCommand:
    """A command between its receipt and the acknowledgement of its result."""

    command_id: str
    lease_id: str
    control: bool = False
    """Whether it is a control command, which uses no capacity."""
    slots: int = 1
    """How much of the agent's capacity it uses while it runs, unless it is a control command."""
    window: OutputWindow = field(default_factory=OutputWindow)
    output_base: int = 0
    """Offset at which the output under this lease begins, after that of earlier leases."""
    pending_start: PendingStart | None = None
    starting: bool = False
    """Whether its handler starts as soon as the journal has that."""
    unstarted: bool = False
    """Its handler was not called and will not be: it was withdrawn, or received by an earlier process of this agent."""
    start_written: bool = False
    """Whether the journal may have said that it started when it was withdrawn."""
    refusal: gateway.Refused | None = None
    """Why it was withdrawn, if it was refused: said again on each new stream."""
    restored: bool = False
    """Whether it comes from the journal."""
    signature: SeenSignature | None = None
    """Its verified signature."""
    run: str = field(default_factory=partial(secrets.token_hex, 8))
    """In the environment of its processes, and in the journal: after a crash, they are found by it."""
    process: ProcessMark | None = None
    result: gateway.Result | None = None
    rerun_reasons: frozenset[str] = frozenset()
    """Codes of failures after which the command says how often it may run: they count as transient."""
    extended_limit: float = 0.0
    """Time limit of the run in seconds, as its handler extended it; 0 if it did not."""
    disowned: bool = False
    """The server gave the command up: stop it, and report nothing more about it."""

    @property
    def running(self) -> bool:
        """Whether it has no result."""
        return self.result is None

    @property
    def output_bytes(self) -> int:
        """Bytes of output under this lease."""
        return self.window.written - self.output_base

    @property
    def stage(self) -> Stage:
        """How far it has got, as the journal is to say it."""
        if self.result is not None:
            return Stage.FINISHED
        waits = self.unstarted or (self.pending_start is not None and not self.starting)
        return Stage.RECEIVED if waits else Stage.STARTED

    def renew(self, lease_id: str) -> None:
        """Continue under a new lease after a redelivery. Output offsets restart at the acknowledged offset."""
        self.lease_id = lease_id
        self.output_base = self.window.acknowledged
        self.window.rewind(self.output_base)
        if self.result:
            self.result.lease_id, self.result.output_bytes = lease_id, self.output_bytes


class _Ended(NamedTuple):
    may_run_again: bool
    result: gateway.Result | None
    size: int


class CommandRecord:
    """The commands of one agent process. Not thread-safe."""

    def __init__(self, durable: bool = False, remembered_bytes: int = REMEMBERED_RESULT_BYTES) -> None:
        """`durable` says that a journal is kept: a command starts and is reported once its entry is written.

        `remembered_bytes` limits the results of ended commands that are kept.
        """
        self._remembered_bytes = remembered_bytes
        self.durable = durable
        self.unwritten = UnwrittenChanges()
        self.signatures = SeenSignatures()
        self.checkpoints = RememberedCheckpoints()
        self.journal_problem: Reason | None = None
        """Why the journal takes no new commands, if it does not."""
        self.journal_failing = False
        """Whether it cannot be written. What runs is then reported without it."""
        self.stuck = 0
        """Slots of handlers that did not stop when asked. Their commands have failed, but they occupy them."""
        self.halt = HaltMemory()
        """The emergency stop in force, if any."""
        self.suspects: set[str] = set()
        """Results of which one has ended a stream; they are sent one at a time."""
        self._held: dict[str, RecordedCommand] = {}
        self._starting: dict[str, None] = {}
        self._ended: OrderedDict[str, _Ended] = OrderedDict()
        self._ended_bytes = 0
        self._unacknowledged = 0
        self._unstarted = 0
        self._control = 0
        self._running = 0

    @property
    def running(self) -> int:
        """Slots of running handlers. Control commands use none."""
        return self._running

    @property
    def control(self) -> int:
        """Number of running control commands."""
        return self._control

    @property
    def unacknowledged(self) -> int:
        """Number of unacknowledged results."""
        return self._unacknowledged

    @property
    def size(self) -> int:
        """Number of commands that are running or unacknowledged."""
        return len(self._held)

    @property
    def held(self) -> list[RecordedCommand]:
        """Commands that are running or unacknowledged, oldest first."""
        return list(self._held.values())

    @property
    def empty(self) -> bool:
        """Whether nothing runs and every result is acknowledged. Withdrawn commands do not count."""
        return len(self._held) == self._unstarted

    def get(self, command_id: str) -> RecordedCommand | None:
        """The command if it is running or its result unacknowledged."""
        return self._held.get(command_id)

    def was_started(self, command_id: str) -> bool:
        """Whether starting `command_id` would start it twice.

        A command may be started again only after the server stored a transient result of it.
        """
        held = self._held.get(command_id)
        if held:
            return not held.unstarted
        ended = self._ended.get(command_id)
        return ended is not None and not ended.may_run_again

    def may_run_again(self, command_id: str) -> bool:
        """Whether the server stored a transient result of an ended command, so that it may assign it again."""
        ended = self._ended.get(command_id)
        return ended is not None and ended.may_run_again

    def start(self, command_id: str, lease_id: str, control: bool = False, slots: int = 1) -> RecordedCommand:
        """Record that the command was received."""
        if command_id in self._held:
            # It was withdrawn, and delivered again.
            self.drop(command_id)
        self._forget_end(command_id)
        held = self._held[command_id] = RecordedCommand(command_id, lease_id, control, slots)
        self._control += control
        self._running += 0 if control else slots
        self._changed(held)
        return held

    def begin_start(self, held: RecordedCommand) -> None:
        """Record that the handler is called next: once that is written, `take_starts` returns the command."""
        held.starting = True
        self.called(held)
        self._starting[held.command_id] = None
        self._changed(held)

    def called(self, held: RecordedCommand) -> None:
        """Record that the handler is called, or about to be: its signature starts no other command."""
        if held.signature:
            self.signatures.started(held.signature)

    @property
    def starts_wait(self) -> bool:
        """Whether commands wait until their start is written."""
        return bool(self._starting)

    def take_starts(self) -> list[RecordedCommand]:
        """Take the commands whose start was written since, in order. STOP must not overtake those before it."""
        starts = []
        while self._starting:
            command_id = next(iter(self._starting))
            held = self._held.get(command_id)
            if held and not self.unwritten.written(command_id):
                break
            del self._starting[command_id]
            if held and held.starting and held.pending_start:
                starts.append(held)
        return starts

    def drop(self, command_id: str) -> None:
        """Forget a command whose handler was not called; it may be redelivered."""
        held = self._held.pop(command_id)
        self._starting.pop(command_id, None)
        self._uncalled(held)
        if held.unstarted:
            self._unstarted -= 1
        else:
            self._stopped(held)
        self._changed(held, urgent=held.starting)

    def withdraw(self, held: RecordedCommand) -> None:
        """Never call the handler, but keep the command until the server knows. It uses no capacity any more."""
        if held.unstarted:
            return
        starting, held.pending_start, held.starting, held.unstarted = held.starting, None, False, True
        self._starting.pop(held.command_id, None)
        self._uncalled(held)
        self._unstarted += 1
        self._stopped(held)
        self._changed(held, urgent=starting)

    def start_may_be_written(self, held: RecordedCommand) -> bool:
        """Whether the journal may say that the command started, although its handler was not called."""
        return self.durable and held.starting and not self.unwritten.only_noted(held.command_id)

    def renew(self, held: RecordedCommand, lease_id: str) -> None:
        """Continue a command under a new lease."""
        held.renew(lease_id)
        self._changed(held)

    def runs_in(self, command_id: str, process: ProcessMark) -> None:
        """Record the process group of a running command."""
        held = self._held.get(command_id)
        if held:
            held.process = process
            self._changed(held)

    def finish(self, result: gateway.Result) -> None:
        """Record the result of a running command; forget a disowned command."""
        held = self._held[result.command_id]
        # The lease may have been renewed while the result was on its way here.
        result.lease_id = held.lease_id
        held.result = result
        self._unacknowledged += 1
        self._stopped(held)
        if held.disowned:
            self.forget(held.command_id)
        else:
            self._changed(held)

    def replace(self, result: gateway.Result) -> None:
        """Replace a result that the server cannot accept."""
        held = self._held[result.command_id]
        held.result = result
        self.suspects.discard(result.command_id)
        self._changed(held)

    def acknowledge(self, command_id: str, stored: bool) -> None:
        """Record that the server stored the result, or never will. Ignores ids without a result."""
        held = self._held.get(command_id)
        if held and held.result:
            self._end(held, may_run_again=stored and held.result.transient)

    def forget(self, command_id: str) -> None:
        """Drop a result that must not be sent. Ignores ids without a result."""
        self.acknowledge(command_id, stored=False)

    def recall(self, command_id: str, lease_id: str) -> bool:
        """Hold the result of an ended command again, under a new lease; return False if it is not remembered."""
        ended = self._ended.get(command_id)
        if ended is None or ended.result is None:
            return False
        self._forget_end(command_id)
        held = self._held[command_id] = RecordedCommand(command_id, lease_id)
        held.result = ended.result
        held.window.close()
        held.result.lease_id = lease_id
        self._unacknowledged += 1
        self._changed(held)
        return True

    # Journal

    def is_written(self, command_id: str) -> bool:
        """Whether the command may be reported: the journal has its state, or cannot have it."""
        return self.journal_failing or self.unwritten.written(command_id)

    def entry(self, command_id: str) -> CommandEntry | None:
        """The command's journal entry; None if it is to be forgotten."""
        held = self._held.get(command_id)
        if held:
            result = held.result.SerializeToString() if held.result else None
            return CommandEntry(
                command_id, held.lease_id, held.stage, held.output_base, result, run=held.run, process=held.process
            )
        ended = self._ended.get(command_id)
        if ended:
            result = ended.result.SerializeToString() if ended.result else None
            return CommandEntry(command_id, "", Stage.ENDED, 0, result, ended.may_run_again)
        return None

    def restore(self, entry: CommandEntry, output: Sequence[Chunk] = ()) -> RecordedCommand | None:
        """Put back a command of an earlier process with its unacknowledged output; return it if it has not ended."""
        result = None if entry.result is None else gateway.Result.FromString(entry.result)
        if entry.stage is Stage.ENDED:
            self._remember(entry.command_id, _Ended(entry.may_run_again, result, len(entry.result or b"")))
            return None
        held = self._held[entry.command_id] = RecordedCommand(
            entry.command_id,
            entry.lease_id,
            output_base=entry.output_base,
            unstarted=entry.stage is Stage.RECEIVED,
            restored=True,
            run=entry.run,
            process=entry.process,
            result=result,
        )
        self._unacknowledged += result is not None
        self._unstarted += held.unstarted
        self._running += result is None and not held.unstarted
        held.window.restore(output, entry.output_base + (result.output_bytes if result else 0))
        return held

    def _uncalled(self, held: RecordedCommand) -> None:
        if held.signature:
            self.signatures.unstarted(held.signature)

    def _stopped(self, held: RecordedCommand) -> None:
        self._control -= held.control
        self._running -= 0 if held.control else held.slots

    def _changed(self, held: RecordedCommand, urgent: bool = True) -> None:
        # Control commands are harmless to repeat, so that the journal would only delay them.
        if not self.durable or held.control:
            return
        if urgent:
            self.unwritten.note(held.command_id)
        else:
            self.unwritten.note_later(held.command_id)

    def _end(self, held: RecordedCommand, may_run_again: bool) -> None:
        del self._held[held.command_id]
        self._unacknowledged -= 1
        self.suspects.discard(held.command_id)
        # A disowned command was stopped for the server, so its result is not its outcome.
        result = None if held.disowned or may_run_again else held.result
        self._remember(held.command_id, _Ended(may_run_again, result, result.ByteSize() if result else 0))
        self._changed(held, urgent=False)

    def _remember(self, command_id: str, ended: _Ended) -> None:
        self._ended[command_id] = ended
        self._ended_bytes += ended.size
        if len(self._ended) > REMEMBERED:
            self._forget_end(oldest := next(iter(self._ended)))
            self._forgotten(oldest)
        if self._ended_bytes > self._remembered_bytes:
            self._forget_oldest_results()

    def _forget_end(self, command_id: str) -> None:
        ended = self._ended.pop(command_id, None)
        if ended:
            self._ended_bytes -= ended.size

    def _forget_oldest_results(self) -> None:
        for command_id, ended in self._ended.items():
            if self._ended_bytes <= self._remembered_bytes // 2:
                # Forget half of them at once, so that this scan is rare.
                return
            if ended.result is None:
                continue
            self._ended_bytes -= ended.size
            self._ended[command_id] = _Ended(ended.may_run_again, None, 0)
            self._forgotten(command_id)

    def _forgotten(self, command_id: str) -> None:
        if self.durable:
            self.unwritten.note_later(command_id)
