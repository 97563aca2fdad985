"""Finds the result that ends streams: sends each suspect alone, when everything before it is known to have been read.

A stream that ends because of a message says not which. Only if the message with the result was the last, and all
before it were read, is the result to blame. Does no I/O.
"""

from __future__ import annotations

from distributor.agent.heartbeats import Heartbeats
from distributor.agent.outbox import Outbox
from distributor.agent.record import CommandRecord
from distributor.v1 import agent_gateway_pb2 as gateway


class ResultTrial:
    """The trial of suspected results on one stream. While one is due, only heartbeats are sent besides."""

    def __init__(self, record: CommandRecord, outbox: Outbox, heartbeats: Heartbeats) -> None:
        self._record = record
        self._outbox = outbox
        self._heartbeats = heartbeats
        self._sent_after = 0
        """Number of the latest heartbeat when anything else was sent last."""
        self._lone = ""

    @property
    def on(self) -> bool:
        """Whether a suspect can be sent, or waits for its acknowledgement."""
        suspects = self._record.suspects
        return bool(suspects) and any(self._is_due(command_id) for command_id in suspects)

    @property
    def lone_result(self) -> str:
        """The suspect whose result was the last message of the stream and is not acknowledged, if any."""
        return self._lone if self._lone in self._outbox.sent_results else ""

    def take(self) -> gateway.ConnectRequest | None:
        """Take the next message: a heartbeat, or a suspect once a heartbeat shows that all before it was read."""
        if self._outbox.heartbeat is not None:
            return gateway.ConnectRequest(heartbeat=self._outbox.take_heartbeat())
        if (
            self._heartbeats.latest_answered <= self._sent_after
            or self._record.suspects & self._outbox.sent_results.keys()
        ):
            return None
        for held in self._record.held:
            command_id = held.command_id
            if command_id in self._record.suspects and self._outbox.result_ready(command_id):
                return gateway.ConnectRequest(results=[self._outbox.take_result(command_id)])
        return None

    def sent(self, message: gateway.ConnectRequest) -> None:
        """Note that `message` is about to be sent."""
        alone = len(message.results) == 1 and len(message.ListFields()) == 1
        self._lone = message.results[0].command_id if alone else ""
        if not only_heartbeat(message):
            self._sent_after = self._heartbeats.latest

    def _is_due(self, command_id: str) -> bool:
        return command_id in self._outbox.sent_results or self._outbox.result_ready(command_id)


def only_heartbeat(message: gateway.ConnectRequest) -> bool:
    """Whether the message has a heartbeat and nothing else."""
    return message.HasField("heartbeat") and len(message.ListFields()) == 1
