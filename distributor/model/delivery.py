"""Values exchanged between the store and the agents: claims, outcomes and output.

Times are milliseconds; names ending in `_after_ms` count from the claim, None if unknown.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple, TypeAlias

from distributor.model.command import CommandResult, CommandState, Reason
from distributor.model.lifecycle import CancelStage, CommandStatus


class OutputStream(StrEnum):
    """Which of a program's two streams a piece of output came from."""

    STDOUT = "stdout"
    STDERR = "stderr"


class ClaimRequest(NamedTuple):
    """Assign at most `max_commands` commands to this session."""

    agent_id: str
    epoch: int
    max_commands: int
    lease_id: str
    max_control: int = 0
    """Maximum number of control commands, in addition to `max_commands`."""
    extra_slots: int = 0
    """Slots that the commands may use together, beyond one each."""


class ClaimedCommand(NamedTuple):
    """One assigned command."""

    command_id: str
    attempt: int
    encoded: bytes
    slots: int = 1


class Claim(NamedTuple):
    """The commands assigned to one session under one lease id. `superseded`: a newer session exists, none assigned.

    The first `control` commands are control commands. `needed_slots` is how many slots the next command takes, if that
    was more than were left; else 0. Nothing overtakes that command.
    """

    agent_id: str
    epoch: int
    lease_id: str
    assigned_ms: int
    superseded: bool
    commands: list[ClaimedCommand]
    control: int = 0
    needed_slots: int = 0

    @property
    def slots(self) -> int:
        """How many slots its commands use. Control commands use none."""
        return sum([command.slots for command in self.commands[self.control :]])


class Progress(NamedTuple):
    """How far an agent has come with a command. `past_start`: it has started, at an unknown time."""

    command_id: str
    agent_id: str
    lease_id: str
    sent_after_ms: int | None = None
    acknowledged_after_ms: int | None = None
    started_after_ms: int | None = None
    past_start: bool = False


class Extension(NamedTuple):
    """A new time limit of a started command, counted from its start. A shorter one than it has is no change."""

    command_id: str
    agent_id: str
    lease_id: str
    time_limit_ms: int


class Completion(NamedTuple):
    """How a command ended on its agent. `rerun_delay_ms` is None unless it should run again.

    `ran`: its handler ran, so this is the outcome even if the attempt was given up meanwhile. `absent`: the agent does
    not have it, in answer to a cancel. `survived`: processes of it still run.
    `data_json` is raw JSON, empty if there is none. It is encoded once on arrival, where its size is checked, and
    stored unchanged, or else as `data_gzip`: gzip in base64.
    """

    progress: Progress
    status: CommandStatus
    reason: Reason = Reason()
    exit_code: int | None = None
    data_json: str = ""
    output_bytes: int = 0
    rerun_delay_ms: int | None = None
    ran: bool = False
    data_gzip: str = ""
    absent: bool = False
    survived: bool = False


class CompletionOutcome(StrEnum):
    """What the store did with a completion."""

    STORED = "stored"
    RUN_AGAIN = "run_again"
    LATE = "late"
    UNKNOWN = "unknown"
    FOREIGN = "foreign"
    STALE = "stale"
    OPEN = "open"
    """Not found by a cancel, but its agent may run it under another lease."""


class Release(NamedTuple):
    """A command that its agent did not start, to be requeued after a delay.

    `counts`: whether this used up one of the limited delivery attempts. `refused`: the agent said that
    nothing of it runs. `unsent`: its stream never carried this attempt. Otherwise the agent may have it, and its
    reports about this attempt still count.
    """

    command_id: str
    agent_id: str
    lease_id: str
    delay_ms: int
    reason: Reason
    counts: bool = True
    refused: bool = False
    unsent: bool = False


NOT_DELIVERED: Final = Reason("not_delivered", "the connection ended before the agent had the command")
"""Reason for releasing a command that never reached its agent."""


class DueCommand(NamedTuple):
    """A command whose deadline passed, with its new state."""

    command_id: str
    agent_id: str
    status: CommandStatus


class CancelProgress(NamedTuple):
    """How far the cancel of a command has got under a lease; `message` names what still runs, for COULD_NOT_STOP."""

    command_id: str
    agent_id: str
    lease_id: str
    stage: CancelStage
    message: str = ""


class OutputPiece(NamedTuple):
    """Bytes read from a program. `offset` counts both streams together; `stream` is 1 for stdout, 2 for stderr.

    `packed` is `data` as gzip, if it is to be stored like that, else empty.
    """

    command_id: str
    agent_id: str
    lease_id: str
    stream: int
    offset: int
    data: bytes
    packed: bytes = b""


class OutputRefusal(StrEnum):
    """Why output was not stored. The values are reason codes.

    STALE: the command is alive, but not under this lease. UNKNOWN: there is no such command of this agent.
    """

    STALE = "stale_lease"
    ENDED = "command_ended"
    UNKNOWN = "unknown_command"


class OutputChunk(NamedTuple):
    """A stored piece of output, bytes exact. `offset` counts both streams together, over all attempts."""

    stream: OutputStream
    offset: int
    data: bytes
    received_ms: int = 0

    @property
    def end_offset(self) -> int:
        """The offset after its last byte."""
        return self.offset + len(self.data)


class OutputGap(NamedTuple):
    """Output that is not retained: from `begin_offset` up to, not including, `end_offset`."""

    begin_offset: int
    end_offset: int


Update: TypeAlias = CommandState | OutputChunk | OutputGap | CommandResult
"""One step of a watched command. A CommandResult is the last."""
