"""Converts between messages of EmergencyService and model values."""

from __future__ import annotations

from distributor.errors import InvalidArgument
from distributor.model.command import InvalidField
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import AgentHalt
from distributor.model.stop_request import scope_of
from distributor.model.stop_scope import StopScope
from distributor.rpc.command_messages import fill_time
from distributor.v1 import emergency_pb2 as pb
from distributor.wire.enums import HALT_STATUS_TO_WIRE


def stop_scope(message: pb.StopScope) -> StopScope:
    """Convert and check a scope. Raises InvalidArgument."""
    try:
        return scope_of(message.all, message.selectors)
    except InvalidField as error:
        raise InvalidArgument(str(error), field=error.field, reason=error.reason) from error


def fill_stop(message: pb.EmergencyStop, stop: EmergencyStop) -> None:
    """Write a stop into `message`."""
    message.stop_id, message.reason, message.stopped_by = stop.stop_id, stop.reason, stop.stopped_by
    message.scope.all = stop.scope.all
    message.scope.selectors.extend(stop.scope.selectors)
    fill_time(message.stop_time, stop.since_ms)


def fill_agent(message: pb.AgentHalt, halt: AgentHalt) -> None:
    """Write what is known of an agent into `message`."""
    message.agent_id, message.status = halt.agent_id, HALT_STATUS_TO_WIRE[halt.status]
    if halt.reason.code:
        message.reason.code, message.reason.message = halt.reason
    for one in halt.running:
        message.running.add(command_id=one.command_id, survivors=one.survivors)
    if halt.orphan_ms:
        fill_time(message.orphan_time, halt.orphan_ms)
