"""The way of an accepted command to its handler: Received is sent, the start is journalled, the handler is called.

Does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable

from distributor.agent.actions import Action, RefusedCommand, StartCommand
from distributor.agent.gathering import Gathering
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord, PendingStart, RecordedCommand
from distributor.agent.withdrawals import Withdrawals
from distributor.v1 import agent_gateway_pb2 as gateway

RefuseStale = Callable[[gateway.Assignment, float], RefusedCommand]


class Starts:
    """Starts the commands of one stream, in the order received."""

    def __init__(
        self,
        record: CommandRecord,
        outbox: Outbox,
        gathering: Gathering,
        withdrawals: Withdrawals,
        refuse_stale: RefuseStale,
    ) -> None:
        """`refuse_stale` refuses a command that may no longer start at a time, and returns the action."""
        self._record = record
        self._outbox = outbox
        self._gathering = gathering
        self._withdrawals = withdrawals
        self._refuse_stale = refuse_stale

    def received_sent(self, received: gateway.Received, now: float) -> list[Action]:
        """Note that this Received is on the wire."""
        held = self._record.get(received.command_id)
        if held and held.pending_start and held.lease_id == received.lease_id:
            return self.begin(held, held.pending_start, now)
        return []

    def begin(self, held: RecordedCommand, waiting: PendingStart, now: float) -> list[Action]:
        """Call the handler, once the journal has that it was called."""
        if not self._record.durable or (held.control and not self._record.starts_wait):
            return self._call(held, waiting, now)
        if not held.starting:
            self._record.begin_start(held)
        return []

    def written(self, now: float) -> list[Action]:
        """Call the handlers of commands whose start the journal has."""
        starts = self._record.take_starts()
        return [action for held in starts if held.pending_start for action in self._call(held, held.pending_start, now)]

    def _call(self, held: RecordedCommand, waiting: PendingStart, now: float) -> list[Action]:
        if now >= waiting.fresh_until:
            self._withdrawals.withdraw(held)
            return [self._refuse_stale(waiting.assignment, now)]
        held.pending_start, held.starting = None, False
        self._record.called(held)
        self._gathering.expect(held.command_id, now)
        self._outbox.started.append(gateway.Started(command_id=held.command_id, lease_id=held.lease_id))
        return [StartCommand(waiting.assignment)]
