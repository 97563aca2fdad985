"""The command lifecycle as a table: states, and the transitions that each operation may make.

    queued ──claim──► assigned ──finish──► completed | failed | timeout | cancelled
      │ ▲               │
      │ └── release ────┘   not acknowledged, refused as busy or stale, or worth another run
      ├── settle ──► completed | failed | timeout | cancelled   the outcome of an attempt that was given up
      ├── outdate ─► failed         meant for an instance of its agent that is gone
      ├── cancel ──► cancelled
      ├── drop ────► cancelled      pushed out of a full queue
      └── expire ──► timeout

Receipts are timestamps within these states, not states of their own. This table is the only statement of the policy:
the store's functions receive the permitted source states of an operation from `sources()`, and the one function that
changes a state rejects every pair that is not in TRANSITIONS, which is loaded together with the functions.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final


class CommandStatus(StrEnum):
    """The six states. The values are stored in Valkey and displayed."""

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
    """What moves a command from one state to another."""

    CLAIM = "claim"
    """Assign it to an attached agent."""
    ADOPT = "adopt"
    """Leave it with a returning agent that still holds the latest lease."""
    RELEASE = "release"
    """Requeue it for another attempt."""
    FINISH = "finish"
    """The agent reported the outcome, or the time limit passed."""
    SETTLE = "settle"
    """The agent reported the outcome of a given-up attempt before a later one started."""
    OUTDATE = "outdate"
    """The agent instance that it was meant for is gone."""
    GIVE_UP = "give_up"
    """No attempts remain, or a cancelled command is held by no agent."""
    CANCEL = "cancel"
    """End it at once: no agent has it yet."""
    EXPIRE = "expire"
    """It exceeded its queue TTL."""


_Q, _A = CommandStatus.QUEUED, CommandStatus.ASSIGNED

TRANSITIONS: Final[dict[Operation, dict[CommandStatus, frozenset[CommandStatus]]]] = {
    Operation.CLAIM: {_Q: frozenset({_A})},
    Operation.ADOPT: {_Q: frozenset({_A}), _A: frozenset({_A})},
    Operation.RELEASE: {_A: frozenset({_Q})},
    Operation.FINISH: {_A: TERMINAL},
    # A transient failure counts as a run, and the command waits for the next one.
    Operation.SETTLE: {_Q: TERMINAL | {_Q}, _A: TERMINAL | {_Q}},
    Operation.OUTDATE: {_Q: frozenset({CommandStatus.FAILED})},
    Operation.GIVE_UP: {_A: frozenset({CommandStatus.FAILED, CommandStatus.CANCELLED})},
    Operation.CANCEL: {_Q: frozenset({CommandStatus.CANCELLED})},
    Operation.EXPIRE: {_Q: frozenset({CommandStatus.TIMEOUT})},
}


def sources(operation: Operation) -> tuple[CommandStatus, ...]:
    """The states that `operation` may start from, in a stable order."""
    return tuple(status for status in CommandStatus if status in TRANSITIONS[operation])


def allowed(operation: Operation, before: CommandStatus, after: CommandStatus) -> bool:
    """Whether `operation` may take a command from `before` to `after`."""
    return after in TRANSITIONS[operation].get(before, frozenset())
