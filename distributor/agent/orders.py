"""What the server says to the agent as a whole: limits, drain, stop, halt and resume. Does no I/O."""

from __future__ import annotations

from collections.abc import Callable

from distributor.agent.actions import Action, ServerDrains, ServerStops
from distributor.agent.halting import Halting
from distributor.agent.heartbeats import Heartbeats
from distributor.agent.output_exchange import OutputExchange
from distributor.agent.record import CommandRecord
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.wire.times import bounded_seconds

Report = Callable[[float], None]


class Orders:
    """Applies them to one stream."""

    def __init__(
        self, record: CommandRecord, heartbeats: Heartbeats, output: OutputExchange, halting: Halting, report: Report
    ) -> None:
        """`report` puts a heartbeat into the next message: the room for commands has changed at this time."""
        self._record = record
        self._heartbeats = heartbeats
        self._output = output
        self._halting = halting
        self._report = report

    def welcomed(self, welcome: gateway.Welcome) -> None:
        """Adopt the limits, and note a halt, under which nothing starts that waits."""
        # Zero means that the server did not set the field.
        interval = bounded_seconds(welcome.heartbeat_interval)
        self._heartbeats.interval = interval or self._heartbeats.interval
        self._heartbeats.start_within = bounded_seconds(welcome.start_within)
        self._output.apply(welcome.limits)
        if welcome.HasField("halt"):
            self._halting.note(welcome.halt)

    def receive(self, message: gateway.ConnectResponse, now: float) -> list[Action]:
        """Process those of a message, in the order of their field numbers. Returns the actions, in order."""
        actions: list[Action] = []
        if message.HasField("drain"):
            actions.append(ServerDrains(bounded_seconds(message.drain.reconnect_after)))
        if message.HasField("stop"):
            actions.append(ServerStops(message.stop.reason))
        if message.HasField("halt"):
            actions += self._halting.halt(message.halt, now)
            self._report(now)
        if message.HasField("resume") and self._record.halt.current:
            self._halting.resume()
            self._report(now)
        return actions
