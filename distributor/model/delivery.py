"""What passes between the store and the agents: claims, what became of what was claimed, and output.

Times are milliseconds; those that end in `_after_ms` count from the claim, None where not known.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

from distributor.model.command import Reason
from distributor.model.lifecycle import CommandStatus


class OutputStream(StrEnum):
    """Which of the two streams of a program a piece of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class ClaimRequest(NamedTuple):
    """Give at most `most` commands to this session."""

    agent_id: str
    epoch: int
    most: int
    lease_id: str
    most_control: int = 0
    """How many control commands, beside `most` of the others."""


class ClaimedCommand(NamedTuple):
    """One command given out."""

    command_id: str
    attempt: int
    encoded: bytes


class Claim(NamedTuple):
    """What one session got, all under one lease id. `superseded`: a newer session exists, it gets nothing.

    The first `control` of the commands are control commands.
    """

    agent_id: str
    epoch: int
    lease_id: str
    assigned_ms: int
    superseded: bool
    commands: list[ClaimedCommand]
    control: int = 0


class Progress(NamedTuple):
    """What an agent has done with a command so far."""

    command_id: str
    agent_id: str
    lease_id: str
    sent_after_ms: int | None = None
    acknowledged_after_ms: int | None = None
    started_after_ms: int | None = None


class Completion(NamedTuple):
    """How a command ended on its agent. `rerun_delay_ms` is None unless another run is worth it.

    `ran`: its handler did run, so that this is the outcome even where the attempt was given up meanwhile.
    `data_json` is raw JSON, empty for none: it is encoded once at the door, where its size is checked, and stored so.
    """

    progress: Progress
    status: CommandStatus
    reason: Reason = Reason()
    exit_code: int | None = None
    data_json: str = ""
    output_bytes: int = 0
    rerun_delay_ms: int | None = None
    ran: bool = False


class CompletionOutcome(StrEnum):
    """What the store made of a completion."""

    STORED = "stored"
    RUN_AGAIN = "run_again"
    LATE = "late"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    STALE = "stale"


class Release(NamedTuple):
    """A command that its agent did not start, to be given out again after a delay.

    `counts`: whether it was an attempt at delivery, of which there are only so many.
    """

    command_id: str
    agent_id: str
    lease_id: str
    delay_ms: int
    reason: Reason
    counts: bool = True


NOT_DELIVERED: Final = Reason("not_delivered", "the connection ended before the agent had the command")
"""Why a command is taken back that never reached its agent."""


class DueCommand(NamedTuple):
    """What a passed deadline did to a command: the state it is in now."""

    command_id: str
    agent_id: str
    status: CommandStatus


class OutputPiece(NamedTuple):
    """Bytes an agent read from a program. `offset` counts over both streams; `stream` is 1 stdout, 2 stderr."""

    command_id: str
    agent_id: str
    lease_id: str
    stream: int
    offset: int
    data: bytes


class StoredChunk(NamedTuple):
    """A piece of output as kept: `offset` counts over all attempts."""

    stream: int
    offset: int
    data: bytes
    received_ms: int
