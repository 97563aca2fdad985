"""Requests to queue a command, from the wire to what the use case takes."""

from __future__ import annotations

import hashlib
from functools import partial

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError, EncodeError

from distributor.dispatch.command_service import QueueRequest
from distributor.errors import InvalidArgument
from distributor.model.command import NAMED_PRIORITIES, CommandDraft, OfflinePolicy
from distributor.rpc.command_messages import unknown_enum_value
from distributor.rpc.params_summary import params_summary
from distributor.settings import ServerSettings
from distributor.v1 import agent_gateway_pb2, command_pb2, command_service_pb2
from distributor.wire.json_values import MAX_DEPTH

_OFFLINE_FROM_WIRE = {
    command_pb2.OFFLINE_POLICY_UNSPECIFIED: OfflinePolicy.QUEUE,
    command_pb2.OFFLINE_POLICY_QUEUE: OfflinePolicy.QUEUE,
    command_pb2.OFFLINE_POLICY_FAIL: OfflinePolicy.FAIL,
}
_LEAST_BYTES_OF_DEEP_PARAMS = 4 * MAX_DEPTH
"""A level costs at least four bytes."""
_MAX_NANOS = 999_999_999


class CommandDefaults:
    """What a command gets where it does not say itself."""

    def __init__(self, settings: ServerSettings) -> None:
        self.priority = NAMED_PRIORITIES["normal"]
        self.time_limit_ms = round(settings.time_limit * 1000)
        self.queue_ttl_ms = round(settings.queue_ttl * 1000)


def queue_request(message: command_service_pb2.QueueCommandRequest, defaults: CommandDefaults) -> QueueRequest:
    """What to queue. Fills unset fields of `message` with the defaults, so that its agent sees what holds.

    Raises InvalidArgument for an offline policy that does not exist, an id that the caller chose, a malformed duration,
    and params that agents could not read.
    """
    command = message.command
    # What nobody here knows, nobody here has checked.
    command.DiscardUnknownFields()
    # Before the defaults: after they have changed, the same request is still the same.
    digest = _digest(command) if message.idempotency_key else ""
    if command.command_id:
        raise InvalidArgument(
            "command.command_id is chosen by the server and must be empty; use idempotency_key to name a request",
            field="command.command_id",
            reason="COMMAND_ID_NOT_EMPTY",
        )
    offline = _OFFLINE_FROM_WIRE.get(command.offline_policy)
    if offline is None:
        raise unknown_enum_value("command.offline_policy", command.offline_policy)
    if not command.HasField("priority"):
        command.priority = defaults.priority
    time_limit_ms = _defaulted(command, "time_limit", defaults.time_limit_ms)
    queue_ttl_ms = _defaulted(command, "queue_ttl", defaults.queue_ttl_ms)
    if not command.max_runs:
        command.max_runs = 1
    draft = CommandDraft(
        command.agent_id,
        command.type,
        command.params.ByteSize(),
        command.priority,
        time_limit_ms,
        queue_ttl_ms,
        offline,
        command.max_runs,
        message.idempotency_key,
        params_summary(command.params),
    )
    if draft.params_bytes >= _LEAST_BYTES_OF_DEEP_PARAMS and not _is_readable(command):
        raise InvalidArgument(
            f"command.params nests too deep for messages to agents: {MAX_DEPTH} levels always fit",
            field="command.params",
            reason="PARAMS_TOO_DEEP",
        )
    return QueueRequest(draft, partial(_encode, command), digest)


def _digest(command: command_pb2.Command) -> str:
    return hashlib.sha256(command.SerializeToString(deterministic=True)).hexdigest()


def _is_readable(command: command_pb2.Command) -> bool:
    """Whether it can be read where agents find it: deeper than here, and parsers go to a certain depth only."""
    message = agent_gateway_pb2.ConnectResponse()
    message.commands.assignments.add().command.CopyFrom(command)
    try:
        agent_gateway_pb2.ConnectResponse.FromString(message.SerializeToString())
    except (DecodeError, EncodeError):
        return False
    return True


def _encode(command: command_pb2.Command, command_id: str) -> bytes:
    command.command_id = command_id
    return command.SerializeToString(deterministic=True)


def _defaulted(command: command_pb2.Command, field: str, default_ms: int) -> int:
    duration: Duration = getattr(command, field)
    if command.HasField(field):  # type: ignore[arg-type]  # one of the two names below, not known to the stubs
        if abs(duration.nanos) > _MAX_NANOS or duration.seconds * duration.nanos < 0:
            raise InvalidArgument(
                f"command.{field}.nanos must be within ±{_MAX_NANOS:,} and have the sign of seconds, "
                f"not {duration.nanos:,}",
                field=f"command.{field}",
                reason="INVALID_DURATION",
            )
        return duration.seconds * 1000 + duration.nanos // 1_000_000
    duration.seconds, duration.nanos = default_ms // 1000, default_ms % 1000 * 1_000_000
    return default_ms
