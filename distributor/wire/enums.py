"""Maps between wire enum numbers and model enums, shared by both ends of a connection.

A number that is missing in `…_FROM_WIRE` comes from a later version or is a mistake.
"""

from __future__ import annotations

from typing import Final

from distributor.model.agent import AgentStatus
from distributor.model.agent_report import RefusalKind
from distributor.model.command import OfflinePolicy
from distributor.model.delivery import OutputStream
from distributor.model.halt import HaltStatus
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.v1 import agent_gateway_pb2, command_pb2, command_service_pb2, emergency_pb2

STATUS_TO_WIRE: Final = {
    CommandStatus.QUEUED: command_pb2.COMMAND_STATUS_QUEUED,
    CommandStatus.ASSIGNED: command_pb2.COMMAND_STATUS_ASSIGNED,
    CommandStatus.COMPLETED: command_pb2.COMMAND_STATUS_COMPLETED,
    CommandStatus.FAILED: command_pb2.COMMAND_STATUS_FAILED,
    CommandStatus.TIMEOUT: command_pb2.COMMAND_STATUS_TIMEOUT,
    CommandStatus.CANCELLED: command_pb2.COMMAND_STATUS_CANCELLED,
}
STATUS_FROM_WIRE: Final = {number: status for status, number in STATUS_TO_WIRE.items()}

CANCEL_STAGE_TO_WIRE: Final = {
    CancelStage.REQUESTED: command_pb2.CANCEL_STAGE_REQUESTED,
    CancelStage.DELIVERED: command_pb2.CANCEL_STAGE_DELIVERED,
    CancelStage.STOPPING: command_pb2.CANCEL_STAGE_STOPPING,
    CancelStage.COULD_NOT_STOP: command_pb2.CANCEL_STAGE_COULD_NOT_STOP,
    CancelStage.UNCONFIRMED: command_pb2.CANCEL_STAGE_UNCONFIRMED,
    CancelStage.STOPPED: command_pb2.CANCEL_STAGE_STOPPED,
}
CANCEL_STAGE_FROM_WIRE: Final = {number: stage for stage, number in CANCEL_STAGE_TO_WIRE.items()}

AGENT_STATUS_TO_WIRE: Final = {
    AgentStatus.ONLINE: command_service_pb2.AGENT_STATUS_ONLINE,
    AgentStatus.BUSY: command_service_pb2.AGENT_STATUS_BUSY,
    AgentStatus.OFFLINE: command_service_pb2.AGENT_STATUS_OFFLINE,
    AgentStatus.DEGRADED: command_service_pb2.AGENT_STATUS_DEGRADED,
    AgentStatus.DRAINING: command_service_pb2.AGENT_STATUS_DRAINING,
}
AGENT_STATUS_FROM_WIRE: Final = {number: status for status, number in AGENT_STATUS_TO_WIRE.items()}

OFFLINE_TO_WIRE: Final = {
    OfflinePolicy.QUEUE: command_pb2.OFFLINE_POLICY_QUEUE,
    OfflinePolicy.FAIL: command_pb2.OFFLINE_POLICY_FAIL,
}
OFFLINE_FROM_WIRE: Final = {
    command_pb2.OFFLINE_POLICY_UNSPECIFIED: OfflinePolicy.QUEUE,
    **{number: policy for policy, number in OFFLINE_TO_WIRE.items()},
}
"""Unspecified means QUEUE."""

REFUSAL_TO_WIRE: Final = {
    RefusalKind.BUSY: agent_gateway_pb2.REFUSAL_CODE_BUSY,
    RefusalKind.UNSUPPORTED: agent_gateway_pb2.REFUSAL_CODE_UNSUPPORTED,
    RefusalKind.DUPLICATE: agent_gateway_pb2.REFUSAL_CODE_DUPLICATE,
    RefusalKind.EXPIRED: agent_gateway_pb2.REFUSAL_CODE_EXPIRED,
    RefusalKind.STALE: agent_gateway_pb2.REFUSAL_CODE_STALE,
}
REFUSAL_FROM_WIRE: Final = {number: kind for kind, number in REFUSAL_TO_WIRE.items()}

STREAM_TO_WIRE: Final = {
    OutputStream.STDOUT: command_pb2.OUTPUT_STREAM_STDOUT,
    OutputStream.STDERR: command_pb2.OUTPUT_STREAM_STDERR,
}
STREAM_FROM_WIRE: Final = {number: stream for stream, number in STREAM_TO_WIRE.items()}

HALT_STATUS_TO_WIRE: Final = {
    HaltStatus.STOPPING: emergency_pb2.HALT_STATUS_STOPPING,
    HaltStatus.CONFIRMED: emergency_pb2.HALT_STATUS_CONFIRMED,
    HaltStatus.REFUSED: emergency_pb2.HALT_STATUS_REFUSED,
    HaltStatus.UNREACHABLE: emergency_pb2.HALT_STATUS_UNREACHABLE,
}
HALT_STATUS_FROM_WIRE: Final = {number: status for status, number in HALT_STATUS_TO_WIRE.items()}
