"""The server's side of one agent stream as a state machine without I/O. Time is passed in.

    opened ──heartbeat, received, started, ended──► opened ──drain──► draining ──► (stream ends)

The session knows what is in flight (claimed for this stream and not ended), how much more the agent takes (its
credit), which heartbeat was answered last, and since when the agent is silent. It decides; rpc/agent_stream.py acts.
Times are milliseconds of a monotonic clock.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from distributor.model.control import CONTROL_ROOM

MOST_IN_A_MESSAGE: Final = 20
MAX_CAPACITY: Final = 1_000


class ProtocolViolation(ValueError):
    """The agent sent what the protocol does not allow. `field` is the path of the message part at fault."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


class StageOffsets(NamedTuple):
    """Milliseconds from the claim to each stage, None where it has not been reached."""

    sent: int | None
    acknowledged: int | None
    started: int | None


class InFlight:
    """One command that this session's agent was given. `claimed_at` is the time of its claim."""

    __slots__ = ("acknowledged", "attempt", "claimed_at", "control", "lease_id", "sent", "started")

    def __init__(self, lease_id: str, attempt: int, claimed_at: float, control: bool = False) -> None:
        self.control = control
        """Whether it takes up none of the agent's capacity."""
        self.lease_id = lease_id
        self.attempt = attempt
        self.claimed_at = claimed_at
        self.sent: int | None = None
        self.acknowledged: int | None = None
        self.started: int | None = None

    def acknowledge(self, at: int) -> None:
        """The agent has it. So it was sent, though the word that it was written may come later than the answer."""
        self.acknowledged = at
        if self.sent is None:
            self.sent = at

    def stages(self) -> StageOffsets:
        """What is known of it so far."""
        return StageOffsets(self.sent, self.acknowledged, self.started)


class AgentSession:
    """What one attached agent has and may be given. Owned by its stream; lives as long as it."""

    __slots__ = (
        "_ceiling",
        "_control",
        "_stopping",
        "agent_id",
        "answered_heartbeat",
        "capacity",
        "control_waiting",
        "draining",
        "epoch",
        "heartbeat_before_claim",
        "in_flight",
        "last_heard",
        "more_waiting",
        "opened_ms",
    )

    def __init__(self, agent_id: str, epoch: int, capacity: int, now: float, opened_ms: int = 0) -> None:
        """`opened_ms` is when the store opened it, by Valkey's clock: what happened before has been settled by that."""
        self.agent_id = agent_id
        self.opened_ms = opened_ms
        self.epoch = epoch
        self.capacity = capacity
        self.in_flight: dict[str, InFlight] = {}
        self.answered_heartbeat = 0
        """The Hello counts as heartbeat 0, answered by the Welcome."""
        self.heartbeat_before_claim = 0
        self.last_heard = now
        self.draining = False
        self.more_waiting = False
        """Whether the store may have more for this agent than it had credit for."""
        self.control_waiting = False
        """The same of control commands, for which it had no room."""
        self._ceiling = capacity
        self._control = 0
        """How many of those in flight are control commands."""
        self._stopping: dict[str, str] = {}
        """Commands that are no longer this session's but may still take up room, with their leases."""

    @property
    def credit(self) -> int:
        """How many more commands this agent may be given now."""
        if self.draining:
            return 0
        return max(0, min(self.capacity, self._ceiling) - self._working - len(self._stopping))

    @property
    def control_credit(self) -> int:
        """How many control commands this agent may be given now, whatever else it runs."""
        return 0 if self.draining else max(0, CONTROL_ROOM - self._control)

    @property
    def _working(self) -> int:
        return len(self.in_flight) - self._control

    def heartbeat(self, sequence: int, credit: int, running: int, now: float) -> None:
        """The agent is alive. What it runs and would take more bounds what it is given until the next heartbeat."""
        if sequence != self.answered_heartbeat + 1:
            raise ProtocolViolation(
                "heartbeat.sequence",
                f"heartbeat.sequence must be {self.answered_heartbeat + 1}, one more than the last, not {sequence}",
            )
        if credit < 0 or running < 0:
            raise ProtocolViolation("heartbeat", "heartbeat.credit and heartbeat.running must not be negative")
        self.answered_heartbeat = sequence
        self.last_heard = now
        self._ceiling = self._room(credit, running)

    def _room(self, credit: int, running: int) -> int:
        """How many commands may be in flight or stopping: those that it runs, and as many more as it would take.

        What it has not acknowledged by then was on its way, so the agent has not counted it. What it runs beyond those
        that we know of is none of ours.
        """
        acknowledged = sum(item.acknowledged is not None and not item.control for item in self.in_flight.values())
        if running < acknowledged + len(self._stopping):
            # Not all of these still run, and nothing may follow of what it was to stop.
            self._stopping.clear()
        if credit == 0 and running < self.capacity:
            # About to leave: what ends makes no room.
            return 0
        return credit + min(running, acknowledged + len(self._stopping))

    def refused_as_busy(self) -> None:
        """It has less room than we thought: nothing more until a heartbeat says that there is some."""
        self._ceiling = 0

    def attempt(self, command_id: str) -> int:
        """The number of the attempt that is in flight; 1 where none is."""
        item = self.in_flight.get(command_id)
        return item.attempt if item is not None else 1

    def heard(self, now: float) -> None:
        """Any message proves that the agent lives."""
        self.last_heard = now

    def silent_since(self, now: float) -> float:
        """How long nothing was heard."""
        return now - self.last_heard

    def begin_claim(self) -> None:
        """A claim is about to be made: what comes of it was decided after the heartbeat answered last by now."""
        self.heartbeat_before_claim = self.answered_heartbeat

    def claimed(self, command_id: str, lease_id: str, attempt: int, now: float, control: bool = False) -> None:
        """The store gave this command to this session."""
        self.adopted(command_id, InFlight(lease_id, attempt, now, control))

    def adopted(self, command_id: str, in_flight: InFlight) -> None:
        """The agent held this command already when it attached."""
        self._drop(command_id)
        self.in_flight[command_id] = in_flight
        self._control += in_flight.control

    def sent(self, command_id: str, lease_id: str, now: float) -> None:
        """It was written to the stream. A write may take so long that another attempt is in flight by then."""
        item = self._held(command_id, lease_id)
        if item is not None and item.sent is None:
            item.sent = int(now - item.claimed_at)

    def holds(self, command_id: str, lease_id: str) -> bool:
        """Whether this lease is in flight."""
        return self._held(command_id, lease_id) is not None

    def received(self, command_id: str, lease_id: str, now: float) -> bool:
        """The agent has it. False where this lease is not in flight, or this was known."""
        item = self._held(command_id, lease_id)
        if item is None or item.acknowledged is not None:
            return False
        item.acknowledge(int(now - item.claimed_at))
        return True

    def started(self, command_id: str, lease_id: str, now: float) -> bool:
        """The agent runs it. False where this lease is not in flight, or this was known."""
        item = self._held(command_id, lease_id)
        if item is None or item.started is not None:
            return False
        item.started = int(now - item.claimed_at)
        if item.acknowledged is None:
            item.acknowledge(item.started)
        return True

    def unacknowledged(self) -> list[tuple[str, str]]:
        """What the agent has not said to have, as (command id, lease id)."""
        return [(command_id, item.lease_id) for command_id, item in self.in_flight.items() if item.acknowledged is None]

    def stages(self, command_id: str, lease_id: str) -> StageOffsets:
        """What is known of a command; nothing where this lease is not in flight."""
        item = self._held(command_id, lease_id)
        return item.stages() if item is not None else StageOffsets(None, None, None)

    def lost(self, command_id: str, attempt: int) -> str | None:
        """The store took this attempt away, by a deadline; its lease, None where it was not in flight, or no longer."""
        item = self.in_flight.get(command_id)
        if item is None or item.attempt != attempt:
            return None
        self._drop(command_id)
        if item.acknowledged is not None and not item.control:
            self.stopping(command_id, item.lease_id)
        return item.lease_id

    def stopping(self, command_id: str, lease_id: str) -> None:
        """The agent has what is no longer its own: no room before it says that this ended, or runs less."""
        self._stopping[command_id] = lease_id

    def ended(self, command_id: str, lease_id: str) -> None:
        """What was given out under this lease is no longer this session's, whatever became of it."""
        if self._held(command_id, lease_id) is not None:
            self._drop(command_id)
        if self._stopping.get(command_id) == lease_id:
            del self._stopping[command_id]

    def _drop(self, command_id: str) -> None:
        item = self.in_flight.pop(command_id, None)
        if item is not None:
            self._control -= item.control

    def _held(self, command_id: str, lease_id: str) -> InFlight | None:
        item = self.in_flight.get(command_id)
        return item if item is not None and item.lease_id == lease_id else None
