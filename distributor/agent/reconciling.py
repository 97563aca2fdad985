"""Reconciles the commands that a Hello listed with the server's verdicts on them. Does no I/O."""

from __future__ import annotations

from distributor.agent.actions import Action, OutputRoom, StopCause, StopCommand
from distributor.agent.heartbeats import Heartbeats
from distributor.agent.outbox import Outbox
from distributor.agent.output_exchange import OutputExchange
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.agent.starts import Starts
from distributor.agent.withdrawals import Withdrawals
from distributor.v1 import agent_gateway_pb2 as gateway


class Reconciling:
    """Applies the verdicts of a Welcome to one stream."""

    def __init__(
        self,
        record: CommandRecord,
        outbox: Outbox,
        heartbeats: Heartbeats,
        withdrawals: Withdrawals,
        starts: Starts,
        output: OutputExchange,
    ) -> None:
        self._record = record
        self._outbox = outbox
        self._heartbeats = heartbeats
        self._withdrawals = withdrawals
        self._starts = starts
        self._output = output

    def apply(self, welcome: gateway.Welcome, now: float) -> list[Action]:
        """Apply the verdicts; keep a command without one. Returns the actions, in order."""
        verdicts = {verdict.command_id: verdict for verdict in welcome.verdicts}
        actions: list[Action] = []
        for held in self._record.held:
            if not held.disowned:
                actions += self._reconcile(held, verdicts.get(held.command_id), now)
        return actions

    def _reconcile(self, held: RecordedCommand, verdict: gateway.HeldCommandVerdict | None, now: float) -> list[Action]:
        if verdict and verdict.verdict in (gateway.VERDICT_STOP, gateway.VERDICT_STORED):
            if not held.running:
                # STORED replaces a lost acknowledgement; the command may then be redelivered.
                self._record.acknowledge(held.command_id, stored=verdict.verdict == gateway.VERDICT_STORED)
                return []
            if held.pending_start or held.unstarted:
                self._record.drop(held.command_id)
                return []
            held.disowned = True
            return [StopCommand(held.command_id, StopCause.DISOWNED)]
        if held.pending_start and self._record.halt.current:
            return []
        if held.pending_start:
            # The server confirmed it after it had read the Hello.
            held.pending_start = held.pending_start._replace(fresh_until=self._heartbeats.fresh_until(0))
            return self._starts.begin(held, held.pending_start, now)
        if held.unstarted:
            return [self._withdrawals.refuse_again(held)]
        self._output.rewind(held, verdict)
        if not held.running:
            self._outbox.add_result(held.command_id)
        return [OutputRoom(held.command_id)]
