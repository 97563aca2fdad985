"""What one message of an agent reports about its commands, and how each part is answered."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from distributor.model.command import Reason
from distributor.model.delivery import CompletionOutcome, OutputPiece
from distributor.model.lifecycle import CommandStatus


class LeaseRef(NamedTuple):
    """A command under the lease that the agent got it with."""

    command_id: str
    lease_id: str


class RefusalKind(StrEnum):
    """Why an agent did not start a command."""

    BUSY = "busy"
    UNSUPPORTED = "unsupported"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    STALE = "stale"


class Refusal(NamedTuple):
    """A command that the agent has not started and will not."""

    held: LeaseRef
    kind: RefusalKind
    reason: Reason


class ReportedCompletion(NamedTuple):
    """How a command ended, in the words of the agent. `data_json` is raw JSON, empty for none (see `Completion`).

    `fault` is set where the words made no sense already as a message.
    """

    held: LeaseRef
    status: CommandStatus | None
    reason: Reason
    exit_code: int | None
    data_json: str
    output_bytes: int
    transient: bool
    fault: Reason | None = None


class Report(NamedTuple):
    """One message of an agent, but for heartbeats. `not_found` has what a cancel did not find."""

    received: Sequence[LeaseRef] = ()
    started: Sequence[LeaseRef] = ()
    refusals: Sequence[Refusal] = ()
    outputs: Sequence[OutputPiece] = ()
    completions: Sequence[ReportedCompletion] = ()
    not_found: Sequence[LeaseRef] = ()


class ResultAnswer(NamedTuple):
    """What became of one reported completion. `fault` is empty unless it was rejected."""

    command_id: str
    outcome: CompletionOutcome
    fault: Reason = Reason()


class Answers(NamedTuple):
    """What to tell the agent: about each completion, and up to where output is safe (command id, offset)."""

    results: list[ResultAnswer]
    outputs: list[tuple[str, int]]
