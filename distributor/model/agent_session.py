"""The server's side of one agent stream as a state machine without I/O. Time is passed in.

    opened ──heartbeat, received, started, ended──► opened ──► ending ──► (stream ends)

The session tracks commands in flight (claimed for this stream and not ended), the agent's remaining credit, the last
answered heartbeat, and the time of the last message. It decides; rpc/agent_stream.py acts.
Times are milliseconds of a monotonic clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from math import inf
from typing import Final

from distributor.model.agent_vitals import HEALTHY
from distributor.model.control import CONTROL_ROOM
from distributor.model.in_flight import InFlight
from distributor.model.output_flow import OutputFlow
from distributor.model.protocol_violation import ProtocolViolation

MAX_ITEMS_PER_MESSAGE: Final = 20
MAX_CAPACITY: Final = 1_000
MAX_UNACKNOWLEDGED_OUTPUT_BYTES: Final = 262_144
"""Of one command; a server that retains little output permits less."""


class AgentSession:
    """Commands in flight and credit of one attached agent. Owned by its stream, with the same lifetime."""

    __slots__ = (
        "_ceiling",
        "_control",
        "_given_up_reasons",
        "_given_up_starts",
        "_reserved",
        "_reserved_control",
        "_stale_after",
        "_stopping",
        "_working",
        "agent_id",
        "answered_heartbeat",
        "capacity",
        "control_waiting",
        "ending",
        "epoch",
        "fresh_for_ms",
        "given_up",
        "heartbeat_received_at",
        "in_flight",
        "last_received_at",
        "more_waiting",
        "needed_slots",
        "output_window",
        "silent_after_ms",
        "stored_signs",
        "stored_vitals",
    )

    def __init__(
        self,
        agent_id: str,
        epoch: int,
        capacity: int,
        now: float,
        output_window: int = MAX_UNACKNOWLEDGED_OUTPUT_BYTES,
    ) -> None:
        """`output_window` is the maximum unacknowledged output of a command, in bytes."""
        self.agent_id = agent_id
        self.output_window = output_window
        self.epoch = epoch
        self.capacity = capacity
        self.in_flight: dict[str, InFlight] = {}
        self.answered_heartbeat = 0
        """The Hello counts as heartbeat 0, answered by the Welcome."""
        self.heartbeat_received_at = now
        """When the server read the heartbeat answered last: `now` is when it read the Hello."""
        self.fresh_for_ms = inf
        """How long after a heartbeat is read commands may be claimed: the agent starts none that comes later."""
        self.last_received_at = now
        self.stored_vitals = HEALTHY
        """The agent's vitals as the store has them."""
        self.silent_after_ms = inf
        """A command silent for longer is shown as such: the heartbeat interval."""
        self.stored_signs: Mapping[str, float] = {}
        """When silent commands gave their last sign of life, as the store has it."""
        self.ending = False
        self.more_waiting = False
        """True if the store may have more commands than the agent had credit for."""
        self.needed_slots = 0
        """How many slots the first of them takes, if that was more than the agent had credit for; else 0."""
        self.control_waiting = False
        """True if the store may have more control commands than the agent had room for."""
        self.given_up: dict[str, list[str]] = {}
        """Commands sent on this stream and taken back, with the leases under which the agent may still run them."""
        self._given_up_starts: set[tuple[str, str]] = set()
        """Those of them, with their leases, that the agent has said to have started."""
        self._given_up_reasons: dict[str, str] = {}
        """The callers' reasons for cancelling commands in `given_up`."""
        self._ceiling = capacity
        self._stale_after = -1
        """The latest heartbeat after which a command was claimed that the agent refused as stale."""
        self._control = 0
        """Number of control commands in flight."""
        self._working = 0
        """Slots of all other commands in flight."""
        self._reserved = 0
        self._reserved_control = 0
        """Room kept for claims under way."""
        self._stopping: dict[str, tuple[str, int]] = {}
        """Commands that this session lost but that may still use capacity, with their leases and slots."""

    @property
    def credit(self) -> int:
        """How many more slots the commands may use that the agent receives now."""
        if self.ending:
            return 0
        return max(0, min(self.capacity, self._ceiling) - self._working - self._stopping_slots - self._reserved)

    @property
    def _stopping_slots(self) -> int:
        return sum([slots for _, slots in self._stopping.values()]) if self._stopping else 0

    @property
    def control_credit(self) -> int:
        """How many more control commands the agent may receive now, regardless of its other work."""
        return 0 if self.ending else max(0, CONTROL_ROOM - self._control - self._reserved_control)

    @property
    def takes_waiting(self) -> bool:
        """Whether commands that had to wait for room or for a heartbeat may be claimed now."""
        return self.takes_more or (self.control_waiting and self.control_credit > 0)

    @property
    def takes_more(self) -> bool:
        """Whether commands other than control commands may wait, and the agent has room for the first of them."""
        return self.more_waiting and self.credit >= max(1, self.needed_slots)

    def heartbeat(self, sequence: int, credit: int, running: int, now: float) -> None:
        """Record a heartbeat. Its credit and running count bound what is sent until the next heartbeat."""
        if sequence != self.answered_heartbeat + 1:
            raise ProtocolViolation(
                "heartbeat.sequence",
                f"heartbeat.sequence must be {self.answered_heartbeat + 1}, one more than the last, not {sequence}",
            )
        if credit < 0 or running < 0:
            raise ProtocolViolation("heartbeat", "heartbeat.credit and heartbeat.running must not be negative")
        self.answered_heartbeat = sequence
        self.heartbeat_received_at = self.last_received_at = now
        self._ceiling = self._room(credit, running)

    def _room(self, credit: int, running: int) -> int:
        """How many slots may be in flight or stopping: those still in use, plus the reported credit.

        Unacknowledged commands were still in transit, so the agent did not count them. Commands that it runs beyond
        those known here are not ours. An agent that knows no slots counts each command as one: as its credit and what
        it runs add up to its capacity, the result is the same.
        """
        acknowledged = sum(
            item.slots for item in self.in_flight.values() if item.acknowledged is not None and not item.control
        )
        if running < acknowledged + self._stopping_slots:
            # Some of these have ended, and no further messages may arrive about commands that had to stop.
            self._stopping.clear()
        if credit == 0 and running < self.capacity:
            # The agent is about to leave: commands that end free no room.
            return 0
        return credit + min(running, acknowledged + self._stopping_slots)

    def refused_as_busy(self) -> None:
        """The agent has less room than assumed: send nothing until a heartbeat reports credit."""
        self._ceiling = 0

    def refused_as_stale(self, command_id: str, lease_id: str) -> None:
        """A command came too late to start: claim nothing until a later heartbeat than before its claim is answered."""
        item = self.held(command_id, lease_id)
        if item is not None:
            self._stale_after = max(self._stale_after, item.after_heartbeat)

    def fresh(self, now: float) -> bool:
        """Whether the agent would start a command claimed now: its last heartbeat is young enough, and none was stale.

        Claiming for any other agent only uses up attempts.
        """
        return self.answered_heartbeat > self._stale_after and now - self.heartbeat_received_at < self.fresh_for_ms

    def attempt(self, command_id: str) -> int:
        """Attempt number of the command in flight; 1 if it is not in flight."""
        item = self.in_flight.get(command_id)
        return item.attempt if item is not None else 1

    def note_message(self, now: float) -> None:
        """Record that a message arrived; any message proves that the agent is alive."""
        self.last_received_at = now

    def silence_ms(self, now: float) -> float:
        """Milliseconds since the last message."""
        return now - self.last_received_at

    def reserve(self, slots: int, control: int) -> None:
        """Keep room for a claim of at most this many slots and control commands, until `end_claim`."""
        self._reserved += slots
        self._reserved_control += control

    @property
    def claiming(self) -> bool:
        """Whether room is reserved for claims under way."""
        return self._reserved > 0 or self._reserved_control > 0

    def end_claim(self, slots: int, control: int) -> None:
        """The claim has ended: what it brought is in flight, the rest of its room is free."""
        self._reserved -= slots
        self._reserved_control -= control

    def claimed(
        self, command_id: str, lease_id: str, attempt: int, now: float, control: bool = False, after_heartbeat: int = 0
    ) -> None:
        """The store assigned this command to this session, after `after_heartbeat` was answered."""
        item = InFlight(lease_id, attempt, now, control)
        item.after_heartbeat = after_heartbeat
        self.adopted(command_id, item)

    def adopted(self, command_id: str, in_flight: InFlight) -> None:
        """The agent already held this command when it attached."""
        if command_id in self.in_flight:
            self._drop(command_id)
        self.in_flight[command_id] = in_flight
        self._control += in_flight.control
        self._working += 0 if in_flight.control else in_flight.slots

    def weigh(self, command_id: str, slots: int) -> None:
        """A command in flight, not a control command, uses this many slots instead of one."""
        item = self.in_flight[command_id]
        self._working += slots - item.slots
        item.slots = slots

    def sent(self, commands: Iterable[tuple[str, str]], now: float) -> None:
        """These commands, as (command id, lease id), were written to the stream.

        During a slow write, others may have replaced them.
        """
        for command_id, lease_id in commands:
            item = self.in_flight.get(command_id)
            if item is not None and item.sent is None and item.lease_id == lease_id:
                item.sent = int(now - item.claimed_at)

    def holds(self, command_id: str, lease_id: str) -> bool:
        """Whether this lease is in flight."""
        return self.held(command_id, lease_id) is not None

    def held(self, command_id: str, lease_id: str) -> InFlight | None:
        """What is in flight under this lease."""
        item = self.in_flight.get(command_id)
        return item if item is not None and item.lease_id == lease_id else None

    def received(self, command_id: str, lease_id: str, now: float) -> bool:
        """The agent has the command. Return False if this lease is not in flight or was already acknowledged."""
        item = self.held(command_id, lease_id)
        if item is None or item.acknowledged is not None:
            return False
        item.acknowledge(int(now - item.claimed_at))
        if self.given_up:
            # The agent has it under this lease now.
            self.settle_given_up(command_id)
        return True

    def started(self, command_id: str, lease_id: str, now: float) -> bool:
        """The agent runs the command. Return False if this lease is not in flight or had already started."""
        item = self.held(command_id, lease_id)
        if item is None or item.started is not None:
            return False
        item.started = int(now - item.claimed_at)
        if item.acknowledged is None:
            item.acknowledge(item.started)
            if self.given_up:
                self.settle_given_up(command_id)
        return True

    def refused(self, command_id: str, lease_id: str) -> bool:
        """The agent will not start the command. Return False if this lease is not in flight or was started."""
        self._forget_given_up(command_id, lease_id)
        item = self.held(command_id, lease_id)
        if item is None or item.started is not None:
            return False
        self._drop(command_id)
        return True

    def output(self, command_id: str, lease_id: str, offset: int, size: int) -> bool:
        """Output arrived. Return False if this lease is not in flight.

        Raises ProtocolViolation if bytes before it are missing, or if it exceeds the window.
        """
        item = self.held(command_id, lease_id)
        if item is None:
            return False
        if item.output is None:
            item.output = OutputFlow()
        item.output.receive(offset, size, self.output_window)
        return True

    def output_acknowledged(self, command_id: str, lease_id: str, offset: int) -> None:
        """The agent may discard its output before `offset`."""
        item = self.held(command_id, lease_id)
        if item is not None and item.output is not None:
            item.output.acknowledge(offset)

    def cancelling(self, command_id: str, reason: str) -> str | None:
        """A caller cancels the command. Return the lease to cancel, or None if it is not in flight.

        The leases in `given_up` must be cancelled, too.
        """
        if command_id in self.given_up:
            self._given_up_reasons[command_id] = reason
        item = self.in_flight.get(command_id)
        if item is None:
            return None
        item.cancel_reason = reason
        return item.lease_id

    def cancel_reason(self, command_id: str, lease_id: str) -> str | None:
        """The caller's reason for cancelling this lease; None if the agent cannot have it or it is not cancelled."""
        item = self.held(command_id, lease_id)
        if item is not None:
            return item.cancel_reason
        return self._given_up_reasons.get(command_id) if self.is_given_up(command_id, lease_id) else None

    def earlier_cancel(self, command_id: str) -> str | None:
        """The caller's reason for cancelling an earlier attempt of this command that the agent may have, if any."""
        item = self.in_flight.get(command_id)
        given_up = self._given_up_reasons.get(command_id)
        return given_up if item is None or item.cancel_reason is None else item.cancel_reason

    def unacknowledged(self) -> list[tuple[str, str]]:
        """Commands that the agent has not acknowledged, as (command id, lease id)."""
        return [(command_id, item.lease_id) for command_id, item in self.in_flight.items() if item.acknowledged is None]

    def lost(self, command_id: str, attempt: int) -> str | None:
        """A deadline took this attempt away. Return its lease, or None if the attempt is not in flight."""
        item = self.in_flight.get(command_id)
        if item is None or item.attempt != attempt:
            return None
        self._drop(command_id)
        if item.acknowledged is not None and not item.control:
            self.stopping(command_id, item.lease_id, item.slots)
        return item.lease_id

    def gave_up(self, command_id: str, lease_id: str) -> None:
        """An attempt that was sent is to be repeated: until its command ends, the agent may run it under this lease."""
        self.given_up.setdefault(command_id, []).append(lease_id)

    def is_given_up(self, command_id: str, lease_id: str) -> bool:
        """Whether the agent may run an attempt under this lease that was given up."""
        return bool(self.given_up) and lease_id in self.given_up.get(command_id, ())

    def started_given_up(self, command_id: str, lease_id: str) -> bool:
        """The agent has started an attempt. Return False unless it was given up."""
        if not self.is_given_up(command_id, lease_id):
            return False
        self._given_up_starts.add((command_id, lease_id))
        return True

    def has_started_given_up(self, command_id: str, lease_id: str) -> bool:
        """Whether the agent has said to have started this attempt, which was given up."""
        return (command_id, lease_id) in self._given_up_starts

    def settle_given_up(self, command_id: str) -> list[str]:
        """Forget and return the leases of attempts of this command that were given up."""
        self._given_up_reasons.pop(command_id, None)
        leases = self.given_up.pop(command_id, [])
        self._given_up_starts.difference_update((command_id, lease_id) for lease_id in leases)
        return leases

    def stopping(self, command_id: str, lease_id: str, slots: int = 1) -> None:
        """The agent still runs a command that it lost: reserve its room until it ends or fewer are running."""
        self._stopping[command_id] = lease_id, slots

    def ended(self, command_id: str, lease_id: str) -> InFlight | None:
        """Forget and return what was in flight under this lease, whatever its outcome."""
        stopping = self._stopping.get(command_id)
        if stopping is not None and stopping[0] == lease_id:
            del self._stopping[command_id]
        if self.given_up:
            self._forget_given_up(command_id, lease_id)
        item = self.held(command_id, lease_id)
        if item is not None:
            self._drop(command_id)
        return item

    def _forget_given_up(self, command_id: str, lease_id: str) -> None:
        leases = self.given_up.get(command_id)
        if leases is not None and lease_id in leases:
            leases.remove(lease_id)
            self._given_up_starts.discard((command_id, lease_id))
            if not leases:
                self.settle_given_up(command_id)

    def _drop(self, command_id: str) -> None:
        item = self.in_flight.pop(command_id, None)
        if item is not None:
            self._control -= item.control
            self._working -= 0 if item.control else item.slots
