"""Converts requests to queue a command to the values that are stored."""

from __future__ import annotations

import hashlib
from typing import NamedTuple

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import DecodeError

from distributor.dispatch.retrying import Origin, Repeated
from distributor.errors import DistributorError, FailedPrecondition, InvalidArgument
from distributor.identity.caller import ANYONE, Caller
from distributor.identity.policy_source import PolicySource
from distributor.model.check_budget import CheckBudget
from distributor.model.command import AGENT_ID_PATTERN, COMMAND_ID_PATTERN, NAMED_PRIORITIES, OfflinePolicy
from distributor.model.queueing import NewCommand
from distributor.rpc.command_messages import fill_requester, unknown_enum_value
from distributor.rpc.durations import milliseconds
from distributor.rpc.type_check import (
    check_params,
    check_secret_params,
    check_secrets_given,
    mark_secrets,
    permitted_type,
)
from distributor.settings import ServerSettings
from distributor.v1 import command_pb2, command_service_pb2
from distributor.wire.at_rest_packer import STORED_PLAIN, AtRestPacker
from distributor.wire.enums import OFFLINE_FROM_WIRE
from distributor.wire.json_values import NotJson, TooDeep
from distributor.wire.params_summary import params_summary
from distributor.wire.secret_params import without_secrets
from distributor.wire.struct_check import check_struct

_SIGNATURE_BYTES = 64


class CommandDefaults:
    """Values for fields that a command leaves unset, the registered types, and how commands are stored."""

    def __init__(
        self,
        settings: ServerSettings,
        at_rest: AtRestPacker = STORED_PLAIN,
        policy: PolicySource | None = None,
    ) -> None:
        self.at_rest = at_rest
        self.policy = policy or PolicySource()
        self.max_params_bytes = settings.max_params_bytes
        self.priority = NAMED_PRIORITIES["normal"]
        self.time_limit_ms = round(settings.time_limit * 1000)
        self.queue_ttl_ms = round(settings.queue_ttl * 1000)
        self.time_limit, self.queue_ttl = Duration(), Duration()
        self.time_limit.FromMilliseconds(self.time_limit_ms)
        self.queue_ttl.FromMilliseconds(self.queue_ttl_ms)


def new_command(
    message: command_service_pb2.QueueCommandRequest,
    command_id: str,
    defaults: CommandDefaults,
    caller: Caller = ANYONE,
    budget: CheckBudget | None = None,
) -> NewCommand:
    """Convert a request. Writes `command_id`, defaults and `caller` into `message`, so that its agent sees them.

    The digest is computed with the defaults and without the id, so an omitted field and one set to its default are the
    same request, as are params in any order. If the operator changes a default between two requests, they differ.

    Raises InvalidArgument for an unknown offline policy, a field set by the caller that the server sets, an invalid
    duration, and params that JSON cannot express, nest too deeply, or do not match the schema of the type; and
    PermissionDenied if the policy does not permit the caller to send the type. Takes up to 40 ms for 256 KiB of tiny
    values: run it in a thread for large params. Raises TooCostly if the check against the schema exceeds a
    `budget` that is not final: try again in a thread with one that is, which takes up to a second.
    """
    command = message.command
    # Unknown fields have passed no check.
    command.DiscardUnknownFields()
    if command.command_id:
        raise InvalidArgument(
            "command.command_id is chosen by the server and must be empty; use idempotency_key to name a request",
            field="command.command_id",
            reason="COMMAND_ID_NOT_EMPTY",
        )
    offline = OFFLINE_FROM_WIRE.get(command.offline_policy)
    if offline is None:
        raise unknown_enum_value("command.offline_policy", command.offline_policy)
    if command.retry_of:
        raise InvalidArgument(
            "command.retry_of is set by RetryCommands and must be empty",
            field="command.retry_of",
            reason="RETRY_OF_NOT_EMPTY",
        )
    if command.HasField("requested_by"):
        raise InvalidArgument(
            "command.requested_by is set by the server and must be empty",
            field="command.requested_by",
            reason="REQUESTED_BY_NOT_EMPTY",
        )
    check_secret_params(command.secret_params)
    _check_signature(command)
    request = _Request(command_id, message.idempotency_key, caller, budget or CheckBudget())
    return _new_command(command, offline, request, defaults)


def repeated_command(origin: Origin, defaults: CommandDefaults) -> Repeated:
    """Make a new command from a stored one. What the old one had left to defaults keeps their values.

    Raises DistributorError if the stored command cannot be read, InvalidArgument if its params are not valid any more,
    PermissionDenied if the policy does not permit it any more, and FailedPrecondition if its sender signed it. Takes as
    long as `new_command`.
    """
    command = command_pb2.Command()
    try:
        command.ParseFromString(origin.encoded)
    except (DecodeError, UnicodeDecodeError) as error:
        raise DistributorError(
            f"the stored command {origin.command_id} cannot be read: {error}", reason="STORE_ERROR"
        ) from error
    if command.HasField("signature"):
        raise FailedPrecondition(
            f"command {origin.command_id} is signed: its agent would take another one with this signature for a replay;"
            " sign it anew and queue it",
            field="command_id",
            reason="SIGNED_COMMAND",
        )
    earlier = command.retry_of
    command.ClearField("command_id")
    command.ClearField("requested_by")
    command.retry_of = origin.command_id
    offline = OFFLINE_FROM_WIRE.get(command.offline_policy, OfflinePolicy.QUEUE)
    request = _Request(origin.new_id, origin.idempotency_key, origin.caller, origin.budget)
    return Repeated(_new_command(command, offline, request, defaults), earlier)


class _Request(NamedTuple):
    """What the server knows of a request beside its command."""

    command_id: str
    idempotency_key: str
    caller: Caller
    budget: CheckBudget
    """Of the check against a schema."""


def _new_command(
    command: command_pb2.Command,
    offline: OfflinePolicy,
    request: _Request,
    defaults: CommandDefaults,
) -> NewCommand:
    found = permitted_type(request.caller, command.type, defaults.policy.current.types)
    time_limit_ms, queue_ttl_ms = _fill_defaults(command, defaults)
    _check_params(command)
    # Params that are too large are refused later, whatever the schema says.
    if found is not None and command.params.ByteSize() <= defaults.max_params_bytes:
        check_params(command, found, request.budget)
    digest = _digest(command) if request.idempotency_key else ""
    command.command_id = request.command_id
    if found is not None:
        mark_secrets(command, found)
    check_secrets_given(command)
    requester = request.caller.requester()
    if requester is not None:
        fill_requester(command.requested_by, requester)
    return NewCommand(
        request.command_id,
        command.agent_id,
        command.type,
        defaults.at_rest.command(command.SerializeToString(deterministic=True)),
        command.params.ByteSize(),
        params_summary(without_secrets(command)),
        command.priority,
        time_limit_ms,
        queue_ttl_ms,
        offline,
        command.max_runs,
        request.idempotency_key,
        digest,
        milliseconds("command.idle_limit", command.idle_limit) if command.HasField("idle_limit") else None,
        command.slots or 1,
        tuple(sorted(command.max_runs_by_reason.items())),
        requester,
    )


def _fill_defaults(command: command_pb2.Command, defaults: CommandDefaults) -> tuple[int, int]:
    """Fill unset fields; return time limit and queue TTL in milliseconds."""
    if not command.HasField("priority"):
        command.priority = defaults.priority
    if not command.offline_policy:
        command.offline_policy = command_pb2.OFFLINE_POLICY_QUEUE
    if not command.max_runs:
        command.max_runs = 1
    if command.slots == 1:
        # The default, which no command needs to store.
        command.ClearField("slots")
    if not command.params.fields:
        command.ClearField("params")
    time_limit_ms, queue_ttl_ms = defaults.time_limit_ms, defaults.queue_ttl_ms
    if command.HasField("time_limit"):
        time_limit_ms = milliseconds("command.time_limit", command.time_limit)
    else:
        command.time_limit.CopyFrom(defaults.time_limit)
    if command.HasField("queue_ttl"):
        queue_ttl_ms = milliseconds("command.queue_ttl", command.queue_ttl)
    else:
        command.queue_ttl.CopyFrom(defaults.queue_ttl)
    return time_limit_ms, queue_ttl_ms


def _check_signature(command: command_pb2.Command) -> None:
    """Raise InvalidArgument for what cannot be a signature. Only its agent verifies it."""
    if not command.HasField("signature"):
        return
    signature = command.signature
    if not (
        COMMAND_ID_PATTERN.fullmatch(signature.signature_id)
        and AGENT_ID_PATTERN.fullmatch(signature.key_id)
        and len(signature.value) == _SIGNATURE_BYTES
    ):
        raise InvalidArgument(
            f"command.signature must have a UUID, a key id and {_SIGNATURE_BYTES} bytes",
            field="command.signature",
            reason="INVALID_SIGNATURE",
        )


def _check_params(command: command_pb2.Command) -> None:
    try:
        check_struct(command.params, "command.params")
    except TooDeep as error:
        raise InvalidArgument(str(error), field=error.path, reason="PARAMS_TOO_DEEP") from error
    except NotJson as error:
        raise InvalidArgument(str(error), field=error.path, reason="INVALID_PARAMS") from error


def _digest(command: command_pb2.Command) -> str:
    """Identify a request. Deterministic: map entries are sorted by key.

    Without the signature, which is another one whenever the sender signs the same command.
    """
    if command.HasField("signature"):
        unsigned = command_pb2.Command()
        unsigned.CopyFrom(command)
        unsigned.ClearField("signature")
        command = unsigned
    return hashlib.sha256(command.SerializeToString(deterministic=True)).hexdigest()
