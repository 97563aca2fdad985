"""Decides which commands the agent accepts. Does no I/O."""

from __future__ import annotations

from distributor.agent.agent_profile import AgentProfile
from distributor.agent.heartbeats import Heartbeats
from distributor.agent.record import CommandRecord
from distributor.agent.refusals import refused, stale
from distributor.agent.vetting import Verdict
from distributor.model.control import CONTROL_ROOM, CONTROL_TYPES
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from distributor.wire.limits import MAX_HELD


class Admission:
    """Accepts or refuses the commands of one stream."""

    def __init__(self, profile: AgentProfile, record: CommandRecord, heartbeats: Heartbeats) -> None:
        self.accepting = True
        """Whether the agent accepts commands, other than control commands, on this stream."""
        self._profile = profile
        self._record = record
        self._heartbeats = heartbeats

    @property
    def takes_work(self) -> bool:
        """Whether the agent accepts commands for which it has room."""
        return self.accepting and self._record.journal_problem is None and self._record.halt.current is None

    @property
    def credit(self) -> int:
        """How many slots the commands may use that are accepted now."""
        if not self.takes_work:
            return 0
        room = self._profile.capacity - self._record.running - self._record.stuck
        return max(0, min(room, MAX_HELD - self._record.size))

    def refusal(
        self, command: command_pb2.Command, vetted: Verdict, fresh_until: float, now: float
    ) -> gateway.Refused | None:
        """The refusal of a new command, None if it is accepted."""
        denied = self._profile.denied.get(command.type)
        if denied:
            return refused(gateway.REFUSAL_CODE_UNSUPPORTED, *denied)
        if command.type not in self._profile.types:
            return refused(
                gateway.REFUSAL_CODE_UNSUPPORTED,
                "unsupported_type",
                f"this agent has no handler for {command.type}, it has {', '.join(self._profile.types)}",
            )
        if vetted.refusal:
            return vetted.refusal
        if now >= fresh_until:
            return stale(self._heartbeats.start_within)
        refusal = self._no_room(command)
        if refusal is None and vetted.signature:
            may_run_again = self._record.may_run_again(command.command_id)
            return self._record.signatures.refusal(vetted.signature, may_run_again, vetted.checked_ms)
        return refusal

    def _no_room(self, command: command_pb2.Command) -> gateway.Refused | None:
        if command.type in CONTROL_TYPES:
            # Control commands have slots of their own, also while the agent leaves.
            if self._record.control < CONTROL_ROOM and self._record.size < MAX_HELD:
                return None
            return refused(gateway.REFUSAL_CODE_BUSY, "busy", f"the agent runs {CONTROL_ROOM} control commands")
        if self._record.halt.current:
            return refused(gateway.REFUSAL_CODE_BUSY, "emergency_stop", self._record.halt.current.message)
        if not self.accepting:
            return refused(gateway.REFUSAL_CODE_BUSY, "stopping", "the agent accepts no more commands")
        if self._record.journal_problem:
            return refused(gateway.REFUSAL_CODE_BUSY, *self._record.journal_problem)
        if self.credit < slots_of(command):
            taken = self._record.running + self._record.stuck
            return refused(
                gateway.REFUSAL_CODE_BUSY,
                "busy",
                f"{taken} of the agent's {self._profile.capacity} slots are taken,"
                f" the command needs {slots_of(command)}",
            )
        return None


def slots_of(command: command_pb2.Command) -> int:
    """How much capacity a command uses; unset means 1."""
    return max(1, command.slots)
