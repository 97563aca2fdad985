"""The life of a command as a table: its states, and which operation leads from where to where.

    queued ──claim──► assigned ──finish──► completed | failed | timeout | cancelled
      │ ▲               │
      │ └── release ────┘   not acknowledged, refused as busy or stale, or worth another run
      ├── settle ──► completed | failed | timeout | cancelled   the outcome of an attempt that was given up
      ├── outdate ─► failed         meant for an instance of its agent that is gone
      ├── cancel ──► cancelled
      ├── drop ────► cancelled      pushed out of a full queue
      └── expire ──► timeout

Receipts are times inside these states, not further states. The policy is written here and nowhere else: the store's
functions get the states that an operation may start from as arguments, from `sources()`, and the one function that
changes a state refuses every pair that is not in TRANSITIONS, which travels with their source.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class CommandStatus(StrEnum):
    """The six states. The words are the ones stored in Valkey and shown to people."""

    QUEUED = "queued"
    ASSIGNED = "assigned"
    COMPLETED = "completed"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"

    @property
    def terminal(self) -> bool:
        """Whether a command in this state has ended."""
        return self in TERMINAL


TERMINAL: Final = frozenset(
    {CommandStatus.COMPLETED, CommandStatus.FAILED, CommandStatus.TIMEOUT, CommandStatus.CANCELLED}
)


class Operation(StrEnum):
    """What can move a command from one state to another."""

    CLAIM = "claim"
    """A distributor takes it for an attached agent."""
    ADOPT = "adopt"
    """A returning agent holds it still, under the latest lease."""
    RELEASE = "release"
    """Back to the queue for another attempt."""
    FINISH = "finish"
    """The agent says how it ended, or its run limit passed."""
    SETTLE = "settle"
    """The agent says how an attempt ended that was given up meanwhile, while no later one was started."""
    OUTDATE = "outdate"
    """It was meant for an instance of the agent that is gone."""
    GIVE_UP = "give_up"
    """No attempts are left, or a cancel met a command that no agent holds."""
    CANCEL = "cancel"
    """Nobody has it yet, so it ends at once."""
    EXPIRE = "expire"
    """It waited longer than it may."""


_Q, _A = CommandStatus.QUEUED, CommandStatus.ASSIGNED

TRANSITIONS: Final[dict[Operation, dict[CommandStatus, frozenset[CommandStatus]]]] = {
    Operation.CLAIM: {_Q: frozenset({_A})},
    Operation.ADOPT: {_Q: frozenset({_A}), _A: frozenset({_A})},
    Operation.RELEASE: {_A: frozenset({_Q})},
    Operation.FINISH: {_A: TERMINAL},
    # A transient failure is counted, and the command waits for its next run.
    Operation.SETTLE: {_Q: TERMINAL | {_Q}, _A: TERMINAL | {_Q}},
    Operation.OUTDATE: {_Q: frozenset({CommandStatus.FAILED})},
    Operation.GIVE_UP: {_A: frozenset({CommandStatus.FAILED, CommandStatus.CANCELLED})},
    Operation.CANCEL: {_Q: frozenset({CommandStatus.CANCELLED})},
    Operation.EXPIRE: {_Q: frozenset({CommandStatus.TIMEOUT})},
}


def sources(operation: Operation) -> tuple[CommandStatus, ...]:
    """The states `operation` may start from, in a stable order."""
    return tuple(status for status in CommandStatus if status in TRANSITIONS[operation])


def allowed(operation: Operation, before: CommandStatus, after: CommandStatus) -> bool:
    """Whether `operation` may take a command from `before` to `after`."""
    return after in TRANSITIONS[operation].get(before, frozenset())
