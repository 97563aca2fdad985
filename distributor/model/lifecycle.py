"""The command lifecycle as a table: states, and the transitions that each operation may make.

    queued ──claim, adopt──► assigned ──finish──► completed | failed | timeout | cancelled
      │ ▲                      │
      │ └──────── release ─────┤    not acknowledged, refused as busy or stale, or worth another run
      │                        ├── give up ─► failed | cancelled   it was not started, and is not to be
      ├──────── doubt ─────────┴─► assigned      to be ended, but an attempt that was given up may have started
      ├──────── lose ────────────► timeout | failed   as doubt, and its agent was not heard in time or lost its record
      ├──────── settle ──────────► completed | failed | timeout | cancelled   the outcome of a given-up attempt
      ├── outdate ─► failed         meant for an instance of its agent that is gone
      ├── cancel ──► cancelled      also if pushed out of a full queue
      └── expire ──► timeout

Receipts are timestamps within these states, not states of their own. This table is the only statement of the policy.
The store's functions receive from `sources()` the permitted source states of what was asked for: a claim, a report, a
cancel, a passed deadline. What they find decides whether it becomes GIVE_UP, DOUBT or LOSE instead; the functions get
no source states for those. The one function that changes a state rejects every pair that is not in TRANSITIONS, which
is loaded together with the functions.
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
    """No attempts remain, or a cancelled command was provably not started."""
    DOUBT = "doubt"
    """It is to end, but its agent may have started it and has not said so: it waits for the agent, or for its limit."""
    LOSE = "lose"
    """Its agent may have started it, and was not heard within the limit."""
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
    Operation.DOUBT: {_Q: frozenset({_A}), _A: frozenset({_A})},
    Operation.LOSE: {
        _Q: frozenset({CommandStatus.TIMEOUT, CommandStatus.FAILED}),
        _A: frozenset({CommandStatus.TIMEOUT, CommandStatus.FAILED}),
    },
    Operation.CANCEL: {_Q: frozenset({CommandStatus.CANCELLED})},
    Operation.EXPIRE: {_Q: frozenset({CommandStatus.TIMEOUT})},
}


class CancelStage(StrEnum):
    """How far a cancel has got. The values are stored in Valkey and displayed."""

    REQUESTED = "requested"
    """Stored; the agent has not got it yet."""
    DELIVERED = "delivered"
    """Written to the agent's stream."""
    STOPPING = "stopping"
    """The agent is stopping the command."""
    COULD_NOT_STOP = "could_not_stop"
    """The agent could not stop it; the reason names the processes that still run."""
    UNCONFIRMED = "unconfirmed"
    """Whether the command runs is not known, as its agent has not been heard."""
    STOPPED = "stopped"
    """Nothing of the command is running."""


_ENDS: Final = frozenset({CancelStage.COULD_NOT_STOP, CancelStage.UNCONFIRMED, CancelStage.STOPPED})

CANCEL_STAGES: Final[dict[CancelStage, frozenset[CancelStage]]] = {
    CancelStage.REQUESTED: _ENDS | {CancelStage.DELIVERED, CancelStage.STOPPING},
    CancelStage.DELIVERED: _ENDS | {CancelStage.STOPPING},
    CancelStage.STOPPING: _ENDS,
    CancelStage.COULD_NOT_STOP: frozenset({CancelStage.UNCONFIRMED, CancelStage.STOPPED}),
    # An agent that is heard again gets the cancel again. That a cancel was written says nothing of the agent.
    CancelStage.UNCONFIRMED: _ENDS | {CancelStage.REQUESTED, CancelStage.STOPPING},
    CancelStage.STOPPED: frozenset(),
}
"""Which stage may follow which, while the command has not ended."""


def sources(operation: Operation) -> tuple[CommandStatus, ...]:
    """The states that `operation` may start from, in a stable order."""
    return tuple(status for status in CommandStatus if status in TRANSITIONS[operation])


def allowed(operation: Operation, before: CommandStatus, after: CommandStatus) -> bool:
    """Whether `operation` may take a command from `before` to `after`."""
    return after in TRANSITIONS[operation].get(before, frozenset())
