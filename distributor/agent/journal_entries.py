"""What passes between the agent's record and its journal: values without I/O."""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import NamedTuple

from distributor.model.command import Reason


class Stage(IntEnum):
    """How far a command has got. Stored as numbers: never change them."""

    RECEIVED = 1
    STARTED = 2
    FINISHED = 3
    """Its result is not acknowledged."""
    ENDED = 4
    """Its result is acknowledged, or will never be sent. Remembered so that it is not started again."""


class ProcessMark(NamedTuple):
    """A program's process group, and when its leader started (clock ticks since boot): group ids are reused."""

    pgid: int
    leader_started: int


class CommandEntry(NamedTuple):
    """The state of one command. Each entry replaces the command's previous one."""

    command_id: str
    lease_id: str
    stage: Stage
    output_base: int = 0
    """Offset at which the output under the lease begins."""
    result: bytes | None = None
    """A serialised Result."""
    may_run_again: bool = False
    """Its transient failure was stored: the server may assign it again for another run."""
    run: str = ""
    """Random, in the environment of the run's processes."""
    process: ProcessMark | None = None


class OutputEntry(NamedTuple):
    """A piece of unacknowledged output; `offset` counts over all leases."""

    command_id: str
    offset: int
    stream: int
    data: bytes


class SeenSignature(NamedTuple):
    """The signature of a command; `expires_ms` is in milliseconds since the epoch."""

    key_id: str
    signature_id: str
    command_id: str
    expires_ms: int

    @property
    def key(self) -> tuple[str, str]:
        """What identifies it: senders choose ids of signatures independently."""
        return self.key_id, self.signature_id


class JournalBatch(NamedTuple):
    """The changes of one commit."""

    commands: Sequence[CommandEntry] = ()
    forgotten: Sequence[str] = ()
    """Commands to remove, with their output."""
    output: Sequence[OutputEntry] = ()
    trimmed: Sequence[tuple[str, int]] = ()
    """Output to remove: that of a command before an offset."""
    signatures: Sequence[SeenSignature] = ()
    """Those of commands that start."""
    unsigned: Sequence[tuple[str, str]] = ()
    """Key id and signature id of signatures to remove."""
    halt: tuple[str, ...] | None = None
    """The emergency stop in force, its id and reason; () if it has ended, None if it has not changed."""
    checkpoints: Sequence[str] | None = None
    """All remembered checkpoints of audit trails; None if they have not changed."""

    @property
    def empty(self) -> bool:
        """Whether there is nothing to commit."""
        return not any(self) and self.halt is None


class JournalContents(NamedTuple):
    """What a journal holds when it is opened, commands in the order received, pieces of output in the order read."""

    journal_id: str
    commands: Sequence[CommandEntry] = ()
    output: Sequence[OutputEntry] = ()
    same_boot: bool = True
    """Whether the host has not been restarted since the journal was last open, so that processes may be left."""
    problem: Reason | None = None
    """Why the journal cannot be written, if it cannot."""
    signatures: Sequence[SeenSignature] = ()
    """Those of started commands that have not expired."""
    halt: tuple[str, ...] = ()
    """The emergency stop in force, its id and reason; empty if there is none."""
    checkpoints: Sequence[str] = ()
    """Remembered checkpoints of audit trails, the newest last."""
