"""The output side of one stream: what the server acknowledges or refuses, and what is sent again. Does no I/O."""

from __future__ import annotations

from typing import Final

from distributor.agent.actions import Action, OutputRoom, StopCause, StopCommand
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord, RecordedCommand
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.limits import MAX_OUTPUT_CHUNK_BYTES

DEFAULT_OUTPUT_LIMIT: Final = 262_144
OUTPUT_SUSPENDED: Final = "stale_lease"
"""Reason for refused output that may be accepted under another lease; after any other, the command has ended."""


class OutputExchange:
    """Applies the answers to output, and knows the server's limits of output and results, in bytes."""

    def __init__(self, record: CommandRecord, outbox: Outbox) -> None:
        self.output_limit = DEFAULT_OUTPUT_LIMIT
        self.max_result_bytes = DEFAULT_OUTPUT_LIMIT
        self.max_chunk_bytes = MAX_OUTPUT_CHUNK_BYTES
        self._record = record
        self._outbox = outbox

    def apply(self, limits: gateway.Limits) -> None:
        """Adopt the limits of a Welcome. Zero means that the server did not set one."""
        self.output_limit = limits.max_unacknowledged_output_bytes or self.output_limit
        self.max_result_bytes = limits.max_result_bytes or self.max_result_bytes
        self.max_chunk_bytes = limits.max_output_chunk_bytes or self.max_chunk_bytes

    def rewind(self, held: RecordedCommand, verdict: gateway.HeldCommandVerdict | None) -> None:
        """Send from where the server is, or from what it acknowledged if it does not say."""
        safe = held.output_base + verdict.output_offset if verdict else held.window.acknowledged
        if held.restored:
            held.window.advance(safe)
            if held.result:
                held.result.output_bytes = max(held.result.output_bytes, held.output_bytes)
        held.window.rewind(safe)
        self.resume(held)

    def resume(self, held: RecordedCommand) -> None:
        """Send what the server lacks under the lease that holds now."""
        if held.window.unsent:
            self._outbox.add_output(held.command_id)
        if held.extended_limit:
            self._outbox.add_extension(held.command_id)

    def acknowledged(self, ack: gateway.OutputAck) -> list[Action]:
        """Discard acknowledged output, and send more; stop the command if its output will never be accepted."""
        held = self._record.get(ack.command_id)
        # Offsets under another lease count from another byte.
        if not held or ack.lease_id not in ("", held.lease_id):
            return []
        if ack.HasField("reason"):
            return self._refused(held, ack.reason.code)
        held.window.acknowledge(held.output_base + ack.offset)
        if held.window.unsent:
            self._outbox.add_output(held.command_id)
        return [OutputRoom(ack.command_id)]

    def _refused(self, held: RecordedCommand, code: str) -> list[Action]:
        if code == OUTPUT_SUSPENDED:
            # The attempt was given up. The command will be delivered again, unless it ends in the queue.
            held.window.suspend()
            return []
        held.window.discard()
        stop: list[Action] = [StopCommand(held.command_id, StopCause.CANCELLED)] if held.running else []
        return [*stop, OutputRoom(held.command_id)]
