"""Emergency stops on one stream: what they end, and what the agent reports. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from distributor.agent.actions import Action, RefusedCommand, StopCause, StopCommand
from distributor.agent.halt_memory import RememberedHalt
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.agent.refusals import refused
from distributor.agent.withdrawals import Withdrawals
from distributor.v1 import agent_gateway_pb2 as gateway

Refuse = Callable[[gateway.Assignment, gateway.Refused, float], RefusedCommand]


class Halting:
    """Applies Halt and Resume."""

    def __init__(self, record: CommandRecord, outbox: Outbox, withdrawals: Withdrawals, refuse: Refuse) -> None:
        """`refuse` refuses a withdrawn command at a time, and returns the action."""
        self._record = record
        self._outbox = outbox
        self._withdrawals = withdrawals
        self._refuse = refuse

    def note(self, halt: gateway.Halt) -> None:
        """Remember a halt: from now on, nothing but control commands starts."""
        self._record.halt.halt(halt.stop_id, halt.reason)

    def halt(self, halt: gateway.Halt, now: float) -> list[Action]:
        """End everything but control commands, and start nothing more."""
        self.note(halt)
        return self.apply(now)

    def apply(self, now: float) -> list[Action]:
        """End what the remembered halt ends, and report."""
        actions: list[Action] = []
        for held in self._record.held if self._record.halt.current else ():
            actions += self._end(held, now)
        self.report()
        return actions

    def resume(self) -> None:
        """Start commands again."""
        self._record.halt.resume()
        self._outbox.halt_due = False

    def report(self) -> None:
        """Report what still runs, with the next message that may contain it."""
        self._outbox.halt_due = self._record.halt.current is not None

    def could_not_stop(self, command_id: str, survivors: Sequence[gateway.SurvivingProcess]) -> None:
        """Note the processes that could not be ended of a command that runs on."""
        if self._record.halt.current:
            self._record.halt.survivors[command_id] = survivors
            self.report()

    def finished(self, command_id: str) -> None:
        """Note that a command has its result, which may name processes that run on."""
        if not self._record.halt.current:
            return
        held = self._record.get(command_id)
        survivors = held.result.survivors if held and held.result else ()
        if survivors:
            self._record.halt.survivors[command_id] = survivors
        else:
            self._record.halt.survivors.pop(command_id, None)
        self.report()

    def _end(self, held: RecordedCommand, now: float) -> list[Action]:
        if held.control or not held.running or held.unstarted:
            return []
        if held.pending_start is None:
            return [StopCommand(held.command_id, StopCause.HALTED)]
        assignment = held.pending_start.assignment
        self._withdrawals.withdraw(held)
        return [self._refuse(assignment, refusal_of(self._record.halt.current), now)]


def refusal_of(halt: RememberedHalt | None) -> gateway.Refused:
    """The refusal of a command under a halt."""
    return refused(gateway.REFUSAL_CODE_BUSY, "emergency_stop", halt.message if halt else "")
