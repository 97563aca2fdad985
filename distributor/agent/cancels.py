"""Cancels that the server sends, and what the agent reports about them. Does no I/O."""

from __future__ import annotations

from collections.abc import Sequence

from distributor.agent.actions import Action, StopCause, StopCommand
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord
from distributor.agent.refusals import refused
from distributor.agent.withdrawals import Withdrawals
from distributor.v1 import agent_gateway_pb2 as gateway


class Cancels:
    """Applies the cancels of one stream."""

    def __init__(self, record: CommandRecord, outbox: Outbox, withdrawals: Withdrawals) -> None:
        self._record = record
        self._outbox = outbox
        self._withdrawals = withdrawals
        self._of_disowned: dict[str, str] = {}
        """The leases of cancels of disowned commands that still run. No result of them will answer the cancel."""

    def receive(self, cancel: gateway.Cancel) -> list[Action]:
        """Stop the command if it runs, forget it if it has not started, and report which."""
        command_id, held = cancel.command_id, self._record.get(cancel.command_id)
        if held and held.disowned:
            # Its lease no longer matters: "unknown" would say that nothing of the command runs.
            self._of_disowned[command_id] = cancel.lease_id
            self._report(command_id, cancel.lease_id, gateway.CANCEL_FINDING_STOPPING)
            return [StopCommand(command_id, StopCause.CANCELLED)]
        if held and cancel.lease_id not in ("", held.lease_id):
            # Of an attempt that was given up: the command was delivered again meanwhile.
            held = None
        # With a result in transit, report "stopping": after "unknown", the server would drop the result.
        if held and (held.pending_start or held.unstarted):
            # Its handler has not been called, and will not be.
            held.refusal = held.refusal or refused(gateway.REFUSAL_CODE_BUSY, "cancelled", "it was cancelled")
            self._withdrawals.withdraw(held)
            held = None
        finding = gateway.CANCEL_FINDING_STOPPING if held else gateway.CANCEL_FINDING_UNKNOWN
        self._report(command_id, cancel.lease_id, finding)
        return [StopCommand(command_id, StopCause.CANCELLED)] if held and held.running else []

    def could_not_stop(self, command_id: str, survivors: Sequence[gateway.SurvivingProcess]) -> None:
        """Report that a command runs on although a cancel should have ended it."""
        held = self._record.get(command_id)
        if held is None:
            return
        lease_id = self._of_disowned.get(command_id) if held.disowned else held.lease_id
        # A disowned command of which no cancel came is not reported.
        if lease_id is not None:
            self._report(command_id, lease_id, gateway.CANCEL_FINDING_COULD_NOT_STOP, survivors)

    def ended(self, command_id: str) -> None:
        """Note that nothing runs of a command any more: answer the cancel of a disowned one."""
        lease_id = self._of_disowned.pop(command_id, None)
        if lease_id is not None:
            self._report(command_id, lease_id, gateway.CANCEL_FINDING_UNKNOWN)

    def _report(
        self,
        command_id: str,
        lease_id: str,
        finding: gateway.CancelFinding.ValueType,
        survivors: Sequence[gateway.SurvivingProcess] = (),
    ) -> None:
        self._outbox.cancel_reports.append(
            gateway.CancelReport(command_id=command_id, lease_id=lease_id, finding=finding, survivors=survivors)
        )
