"""Commands that were received and will never start: refused late, or cancelled before their handler was called.

The server may have stored their `Received`, and would take them for lost if the agent came back without them. So they
stay in the record, and are listed in each Hello, until the server is known to have read the report that it did not
start them. Does no I/O.
"""

from __future__ import annotations

from distributor.agent.actions import RefusedCommand
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.agent.refusals import refused
from distributor.v1 import agent_gateway_pb2 as gateway


class Withdrawals:
    """Withdraws commands on one stream. Reports on them leave once the journal no longer says that they started."""

    def __init__(self, record: CommandRecord, outbox: Outbox) -> None:
        self._record = record
        self._outbox = outbox
        self._reported: dict[str, tuple[str, int]] = {}
        """Commands whose report was sent, with their lease and the number of the last heartbeat before."""

    def withdraw(self, held: RecordedCommand) -> None:
        """Never start this command. The caller reports it."""
        held.start_written = held.start_written or self._record.start_may_be_written(held)
        self._wait_for_journal(held)
        if self._outbox.take_back_received(held.command_id):
            # The server does not know that it arrived.
            self._record.drop(held.command_id)
        else:
            self._record.withdraw(held)

    def refuse_again(self, held: RecordedCommand) -> RefusedCommand:
        """Refuse a command that was withdrawn on an earlier stream, or received by an earlier process of this agent."""
        self._wait_for_journal(held)
        refusal = held.refusal or refused(
            gateway.REFUSAL_CODE_BUSY, "agent_restarted", "the agent ended before it started the command"
        )
        refusal.command_id, refusal.lease_id = held.command_id, held.lease_id
        self._outbox.refused.append(refusal)
        return RefusedCommand(held.command_id, 0, refusal.reason.code)

    def _wait_for_journal(self, held: RecordedCommand) -> None:
        if held.start_written:
            self._outbox.after_journal(held.command_id)

    def sent(self, message: gateway.ConnectRequest, heartbeat: int) -> None:
        """Note that `message` is about to be sent, and the number of the last heartbeat up to it."""
        reports = [(one.command_id, one.lease_id) for one in message.refused]
        reports += [(one.command_id, one.lease_id) for one in message.cancel_reports]
        for command_id, lease_id in reports:
            held = self._record.get(command_id)
            if held and held.unstarted and held.lease_id == lease_id:
                self._reported[command_id] = lease_id, heartbeat

    def answered(self, heartbeat: int) -> None:
        """Forget what was reported before this heartbeat: messages are read in order."""
        for command_id, (lease_id, last) in list(self._reported.items()):
            if last >= heartbeat:
                continue
            del self._reported[command_id]
            held = self._record.get(command_id)
            # It may have been delivered again and withdrawn again, which has not been reported yet.
            if held and held.unstarted and held.lease_id == lease_id:
                self._record.drop(command_id)
