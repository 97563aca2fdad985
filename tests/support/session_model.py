"""A model of what a server answers to the reports of one agent, beside the model of what its store holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from distributor.model.agent_report import LeaseRef
from distributor.model.delivery import CompletionOutcome, OutputRefusal
from distributor.model.lifecycle import CommandStatus
from tests.support.lifecycle_model import LifecycleModel, ModelCommand

LIMIT = 2**53


@dataclass
class ModelFlight:
    """What the session knows of an attempt. `latest_start`: where the next output may start at the latest."""

    lease_id: str
    received: bool = False
    started: bool = False
    cancelled: bool = False
    latest_start: int = 0
    end: int = 0
    acknowledged: int = 0


class Said(NamedTuple):
    """One part of a message. `how` is the refusal, the status or the finding; `offset` and `data` are of output."""

    part: str
    lease: LeaseRef
    how: str = ""
    offset: int = 0
    data: bytes = b""


class OutputReply(NamedTuple):
    """One OutputAck. `code` is empty if the output is safe."""

    lease: LeaseRef
    offset: int
    code: str = ""


class ResultReply(NamedTuple):
    """One ResultAck."""

    lease: LeaseRef
    outcome: CompletionOutcome


@dataclass
class Replies:
    """The answers to a message. `violation` is the field for which the stream ends after them."""

    results: list[ResultReply] = field(default_factory=list)
    outputs: dict[LeaseRef, OutputReply] = field(default_factory=dict)
    violation: str = ""


class Violation(Exception):
    """The stream ends; the argument is the field."""


RETRYABLE = ("busy", "stale")


class SessionModel:
    """One agent's session over the model of the store. The order of parts within a message is that of their numbers."""

    def __init__(self, store: LifecycleModel, agent_id: str, window_bytes: int, slack_bytes: int) -> None:
        self.store = store
        self.agent_id = agent_id
        self.window_bytes = window_bytes
        self.slack_bytes = slack_bytes
        self.flights: dict[str, ModelFlight] = {}
        self.full = False
        self.readers: set[str] = set()
        """Commands that somebody reads who never gets beyond the slack."""
        self.content: dict[str, dict[int, int]] = {}
        """The stored bytes of each command, by their offset over all attempts."""
        self._withheld: dict[str, tuple[str, int]] = {}

    # Sessions

    def attach(self, held: Sequence[tuple[LeaseRef, int]]) -> tuple[set[str], set[str]]:
        """A session opens, with commands of which so much output was produced: those that go on, and those counted."""
        known = [(lease.command_id, lease.lease_id) for lease, _ in held if lease.command_id in self.store.commands]
        adopted, counted = self.store.attach(self.agent_id, known)
        produced = dict(held)
        self.flights = {}
        for command_id in adopted:
            command = self.store.commands[command_id]
            stored = command.output_bytes - command.output_base
            latest = max(stored, produced[LeaseRef(command_id, command.lease_id)])
            self.flights[command_id] = ModelFlight(
                command.lease_id, True, command.started, command.cancel_requested, latest, stored, stored
            )
        return adopted, counted

    def goodbye(self) -> None:
        """The agent leaves: what it has not acknowledged was not delivered."""
        for command_id, flight in self.flights.items():
            if not flight.received:
                self.store.release(
                    self.store.commands[command_id],
                    (self.agent_id, flight.lease_id),
                    delayed=False,
                    counts=False,
                    word="unsent",
                )

    def leave(self) -> None:
        """The session ends."""
        self.store.detach(self.agent_id, self.store.epochs[self.agent_id])
        self.flights = {}

    def claim(self, max_commands: int, lease_id: str) -> list[str]:
        """The commands that the session is given."""
        given = self.store.claim(self.agent_id, self.store.epochs[self.agent_id], max_commands, lease_id)
        assert given is not None
        self.flights.update((command_id, ModelFlight(lease_id)) for command_id in given)
        return given

    # Reports

    def say(self, said: Sequence[Said]) -> Replies:
        """What a message changes, and what is answered."""
        replies = Replies()
        try:
            self._check(said)
            completions = [one for one in said if one.part == "results"]
            self._receipts(said)
            for one in said:
                if one.part == "refused":
                    self._refuse(one)
            self._outputs([one for one in said if one.part == "output"], replies)
            for one in completions:
                self._drop(one.lease)
            replies.results = [self._finish(one) for one in completions]
            for one in said:
                if one.part == "cancel_reports" and one.how == "unknown":
                    self._not_found(one)
        except Violation as violation:
            replies.violation = str(violation)
        return replies

    def _check(self, said: Sequence[Said]) -> None:
        for one in said:
            if one.part == "output" and not 0 <= one.offset <= LIMIT - len(one.data):
                raise Violation("output.offset")

    def _flight(self, lease: LeaseRef) -> ModelFlight | None:
        flight = self.flights.get(lease.command_id)
        return flight if flight is not None and flight.lease_id == lease.lease_id else None

    def _drop(self, lease: LeaseRef) -> None:
        if self._flight(lease):
            del self.flights[lease.command_id]

    def _command(self, lease: LeaseRef) -> ModelCommand:
        return self.store.commands[lease.command_id]

    def _receipts(self, said: Sequence[Said]) -> None:
        for one in said:
            flight = self._flight(one.lease)
            if flight and one.part in ("received", "started"):
                self._progress(one.lease, flight, started=one.part == "started")

    def _progress(self, lease: LeaseRef, flight: ModelFlight, started: bool) -> None:
        flight.received = True
        flight.started |= started
        assert self.store.progress(self._command(lease), self.agent_id, lease.lease_id, flight.started)

    def _refuse(self, one: Said) -> None:
        flight = self._flight(one.lease)
        if flight is None or flight.started:
            return
        self._drop(one.lease)
        command, held_by = self._command(one.lease), (self.agent_id, one.lease.lease_id)
        if one.how in RETRYABLE:
            self.store.release(command, held_by, delayed=True, counts=one.how != "busy", word="refused")
        else:
            status = CommandStatus.TIMEOUT if one.how == "expired" else CommandStatus.FAILED
            assert self.store.finish(command, held_by, status, again=False, ran=False) is CompletionOutcome.STORED
            # With a reason that no result has.
            command.end = None

    def _outputs(self, said: Sequence[Said], replies: Replies) -> None:
        for one in said:
            self._accept(one)
        for one in said:
            flight = self._flight(one.lease)
            if flight and not flight.started:
                self._progress(one.lease, flight, started=True)
        for one in said:
            replies.outputs[one.lease] = self._append(one)
        for lease, reply in replies.outputs.items():
            flight = self._flight(lease)
            if reply.code or flight is None:
                continue
            # Dropped output is not waited for: no reader will ever see it.
            offset = reply.offset if self.full else self._acknowledgeable(lease, reply.offset)
            replies.outputs[lease] = reply._replace(offset=offset)
            flight.acknowledged = max(flight.acknowledged, min(offset, flight.end))

    def _accept(self, one: Said) -> None:
        flight = self._flight(one.lease)
        if flight is None:
            return
        if one.offset > flight.latest_start:
            raise Violation("output.offset")
        acknowledged = one.offset if one.offset > flight.end else flight.acknowledged
        end = max(flight.end, one.offset + len(one.data))
        if end - acknowledged > self.window_bytes:
            raise Violation("output")
        flight.acknowledged, flight.end, flight.latest_start = acknowledged, end, end

    def _append(self, one: Said) -> OutputReply:
        command = self.store.commands.get(one.lease.command_id)
        if self.full:
            held = self._flight(one.lease)
            return OutputReply(one.lease, *((one.offset + len(one.data), "") if held else (0, OutputRefusal.STALE)))
        if command is None:
            return OutputReply(one.lease, 0, OutputRefusal.UNKNOWN)
        before = command.output_bytes
        outcome = self.store.append_output(command, self.agent_id, one.lease.lease_id, one.offset, len(one.data))
        if isinstance(outcome, OutputRefusal):
            return OutputReply(one.lease, 0, outcome)
        if command.output_bytes > before:
            first = command.output_base + one.offset
            stored = self.content.setdefault(command.command_id, {})
            stored.update((first + n, byte) for n, byte in enumerate(one.data) if first + n >= before)
        return OutputReply(one.lease, outcome)

    def _acknowledgeable(self, lease: LeaseRef, stored: int) -> int:
        if lease.command_id not in self.readers:
            return stored
        base = self._command(lease).output_base
        end = base + stored
        if end <= self.slack_bytes:
            return stored
        held_lease, known = self._withheld.get(lease.command_id, ("", 0))
        limit = max(self.slack_bytes, known if held_lease == lease.lease_id else base)
        self._withheld[lease.command_id] = (lease.lease_id, limit)
        return limit - base

    def _finish(self, one: Said) -> ResultReply:
        command = self.store.commands.get(one.lease.command_id)
        if command is None:
            return ResultReply(one.lease, CompletionOutcome.UNKNOWN)
        transient = one.how == "transient"
        status = CommandStatus.FAILED if transient else CommandStatus(one.how)
        held_by = (self.agent_id, one.lease.lease_id)
        return ResultReply(one.lease, self.store.finish(command, held_by, status, again=transient, ran=True))

    def _not_found(self, one: Said) -> None:
        flight = self._flight(one.lease)
        if flight is not None and flight.cancelled:
            self._drop(one.lease)
            command = self._command(one.lease)
            if self.store.not_found(command, self.agent_id, one.lease.lease_id) is CompletionOutcome.STORED:
                # With a reason that no result has.
                command.end = None
