"""An agent's reports about its commands, and the answers to them."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple

from distributor.model.command import Reason
from distributor.model.delivery import CompletionOutcome, Extension, OutputPiece
from distributor.model.lifecycle import CommandStatus


class LeaseRef(NamedTuple):
    """A command and the lease under which it was assigned."""

    command_id: str
    lease_id: str


class RefusalKind(StrEnum):
    """Why an agent refused a command."""

    BUSY = "busy"
    UNSUPPORTED = "unsupported"
    DUPLICATE = "duplicate"
    EXPIRED = "expired"
    STALE = "stale"


class Refusal(NamedTuple):
    """A command that the agent has not started and will not start."""

    lease: LeaseRef
    kind: RefusalKind
    reason: Reason


class ReportedCompletion(NamedTuple):
    """An outcome as the agent reported it. `data_json` is raw JSON, empty if there is none (see `Completion`).

    `fault` is set if the message itself was invalid.
    """

    lease: LeaseRef
    status: CommandStatus | None
    reason: Reason
    exit_code: int | None
    data_json: str
    output_bytes: int
    transient: bool
    fault: Reason | None = None
    survivors: str = ""
    """Names of the processes of the command that still run; empty if none do."""
    data_gzip: str = ""
    """`data_json` as gzip in base64, if it is to be stored like that."""


class Report(NamedTuple):
    """The command reports in one agent message.

    `not_found` lists commands that a cancel did not find, `stopping` those that are being stopped, and `survivors`
    those that could not be stopped, with the names of what still runs.
    """

    received: Sequence[LeaseRef] = ()
    started: Sequence[LeaseRef] = ()
    refusals: Sequence[Refusal] = ()
    outputs: Sequence[OutputPiece] = ()
    completions: Sequence[ReportedCompletion] = ()
    not_found: Sequence[LeaseRef] = ()
    stopping: Sequence[LeaseRef] = ()
    survivors: Sequence[tuple[LeaseRef, str]] = ()
    extensions: Sequence[Extension] = ()


class ResultAnswer(NamedTuple):
    """The outcome of one reported completion. `fault` is empty unless it was rejected."""

    lease: LeaseRef
    outcome: CompletionOutcome
    fault: Reason = Reason()


class OutputAnswer(NamedTuple):
    """Offset up to which the agent may discard its output under this lease.

    With a `fault`, nothing was stored: the lease does not hold the command, and the offset is 0.
    """

    lease: LeaseRef
    offset: int
    fault: Reason = Reason()


class Answers(NamedTuple):
    """The reply to an agent: one answer per completion, and one per lease with output."""

    results: Sequence[ResultAnswer] = ()
    outputs: Sequence[OutputAnswer] = ()
