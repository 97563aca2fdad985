"""The report of an agent about an emergency stop. Does no I/O."""

from __future__ import annotations

from distributor.agent.record import CommandRecord
from distributor.v1 import agent_gateway_pb2 as gateway


def halted_report(record: CommandRecord) -> gateway.Halted | None:
    """What runs under the halt; None without a halt, or if nothing runs and the journal does not have the halt yet."""
    halt = record.halt
    if halt.current is None:
        return None
    running = {held.command_id: () for held in record.held if held.running and not held.control and not held.unstarted}
    found = [
        gateway.StillRunning(command_id=command_id, survivors=survivors)
        for command_id, survivors in (running | halt.survivors).items()
    ]
    if not found and record.durable and not record.journal_failing and not halt.written:
        return None
    return gateway.Halted(stop_id=halt.current.stop_id, running=found)
