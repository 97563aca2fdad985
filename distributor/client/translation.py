"""Translates between wire messages and values."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeVar

from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.protobuf.struct_pb2 import Struct
from google.protobuf.timestamp_pb2 import Timestamp

from distributor.client import values
from distributor.client.signing import CommandSigner
from distributor.client.status import error_of_outcome
from distributor.errors import DistributorError, InvalidArgument
from distributor.model.agent import AgentInfo, AgentPresence, AgentStatus
from distributor.model.command import (
    MAX_RUNS,
    MAX_SLOTS,
    Attempt,
    Command,
    CommandLimits,
    CommandResult,
    CommandState,
    OfflinePolicy,
    Reason,
    Receipts,
)
from distributor.model.delivery import OutputChunk, OutputGap, OutputStream, Update
from distributor.model.json_value import JsonValue
from distributor.model.listing import CommandFilter
from distributor.model.queueing import CommandRequest
from distributor.model.requester import Requester
from distributor.v1 import command_pb2, command_service_pb2
from distributor.wire.enums import (
    AGENT_STATUS_FROM_WIRE,
    AGENT_STATUS_TO_WIRE,
    CANCEL_STAGE_FROM_WIRE,
    OFFLINE_FROM_WIRE,
    OFFLINE_TO_WIRE,
    STATUS_FROM_WIRE,
    STATUS_TO_WIRE,
    STREAM_FROM_WIRE,
)
from distributor.wire.json_values import NotJson, TooDeep, fill_struct, plain_struct, plain_value
from distributor.wire.limits import MAX_BATCH_COMMANDS
from distributor.wire.params_summary import params_summary
from distributor.wire.secret_params import secret_steps, shown_params
from distributor.wire.times import bounded_ms
from distributor.wire.transport import MAX_MESSAGE_BYTES

N = TypeVar("N", bound=int)
T = TypeVar("T")

MAX_BATCH_BYTES: Final = 6 * 1024 * 1024
"""Below the message limit of 8 MiB, with room for framing."""

_MAX_INT32 = 2**31 - 1
_ENVELOPE_BYTES = 16
"""Upper bound of what a batch of one adds to its request."""


def wire_request(
    request: CommandRequest, idempotency_key: str, signer: CommandSigner | None = None
) -> command_service_pb2.QueueCommandRequest:
    """The wire form of `request` with `idempotency_key`, signed by `signer`.

    Raises InvalidArgument for values that have none.
    """
    command = command_pb2.Command(
        agent_id=request.agent_id,
        type=request.type,
        offline_policy=OFFLINE_TO_WIRE[request.offline],
        max_runs=0 if request.max_runs is None else _max_runs(request.max_runs),
        slots=0 if request.slots is None else _slots(request.slots),
    )
    command.max_runs_by_reason.update(request.max_runs_by_reason)
    _fill_params(command, request.params)
    command.secret_params.extend(request.secret_params)
    if request.priority is not None:
        command.priority = _int32(request.priority, "command.priority")
    if request.time_limit_seconds is not None:
        command.time_limit.CopyFrom(_duration(request.time_limit_seconds, "command.time_limit"))
    if request.idle_limit_seconds is not None:
        command.idle_limit.CopyFrom(_duration(request.idle_limit_seconds, "command.idle_limit"))
    if request.queue_ttl_seconds is not None:
        command.queue_ttl.CopyFrom(_duration(request.queue_ttl_seconds, "command.queue_ttl"))
    if signer is not None:
        _sign(command, signer)
    wire = command_service_pb2.QueueCommandRequest(command=command, idempotency_key=idempotency_key)
    if wire.ByteSize() + _ENVELOPE_BYTES > MAX_MESSAGE_BYTES:
        raise _too_large(wire)
    return wire


def batches(
    requests: Sequence[command_service_pb2.QueueCommandRequest],
    max_commands: int = MAX_BATCH_COMMANDS,
    max_bytes: int = MAX_BATCH_BYTES,
) -> Iterator[Sequence[command_service_pb2.QueueCommandRequest]]:
    """Split `requests`, in order, into batches within both bounds. A request over `max_bytes` gets its own batch."""
    start, size = 0, 0
    for index, request in enumerate(requests):
        request_size = request.ByteSize()
        if index > start and (index - start == max_commands or size + request_size > max_bytes):
            yield requests[start:index]
            start, size = index, 0
        size += request_size
    if start < len(requests):
        yield requests[start:]


def wire_filter(filter_: CommandFilter) -> command_service_pb2.CommandFilter:
    """The wire form of a filter."""
    wire = command_service_pb2.CommandFilter(
        agent_id=filter_.agent_id,
        statuses=[STATUS_TO_WIRE[status] for status in filter_.statuses],
        type=filter_.type,
    )
    if filter_.queued_after_ms is not None:
        wire.queued_after.FromMilliseconds(filter_.queued_after_ms)
    if filter_.queued_before_ms is not None:
        wire.queued_before.FromMilliseconds(filter_.queued_before_ms)
    return wire


def wire_agent_status(status: AgentStatus) -> command_service_pb2.AgentStatus.ValueType:
    """The wire number of an agent's status."""
    return AGENT_STATUS_TO_WIRE[status]


def command_of(wire: command_pb2.Command, state: command_pb2.CommandState, params: Struct | None = None) -> Command:
    """A command and its state as one value; `params`, without secrets, if `wire` came without its own."""
    params = wire.params if params is None else shown_params(params, secret_steps(wire))
    return Command(
        state=_state(wire, state, params_summary(params)),
        params=plain_struct(params),
        time_limit_ms=wire.time_limit.ToMilliseconds(),
        queue_ttl_ms=wire.queue_ttl.ToMilliseconds(),
        offline=OFFLINE_FROM_WIRE.get(wire.offline_policy, OfflinePolicy.QUEUE),
        max_runs=wire.max_runs,
        idle_limit_ms=wire.idle_limit.ToMilliseconds(),
        retry_of=wire.retry_of,
        slots=wire.slots or 1,
        max_runs_by_reason=dict(wire.max_runs_by_reason),
        secret_params=tuple(wire.secret_params),
        signed_by=wire.signature.key_id,
    )


def state_of(wire: command_service_pb2.CommandSummary) -> CommandState:
    """The state in one row of a list or one update of a watch."""
    return _state(wire, wire.state, wire.params_summary)


def _state(
    command: command_pb2.Command | command_service_pb2.CommandSummary,
    wire: command_pb2.CommandState,
    summary: str,
) -> CommandState:
    return CommandState(
        command_id=command.command_id,
        agent_id=command.agent_id,
        type=command.type,
        priority=command.priority,
        status=_known(STATUS_FROM_WIRE, wire.status),
        attempt=wire.attempt,
        receipts=_receipts(wire.receipts),
        cancel_ms=_ms(wire, "cancel_time"),
        progress_ms=_ms(wire, "progress_time"),
        cancel_stage=CANCEL_STAGE_FROM_WIRE.get(wire.cancel_stage),
        attempts=_attempts(wire.attempts),
        reason=_reason(wire.reason),
        params_summary=summary,
        revision=wire.revision,
        agent=_presence(wire),
        output_bytes=wire.output_bytes if wire.HasField("output_bytes") else None,
        requested_by=_requester(command),
    )


def _requester(command: command_pb2.Command | command_service_pb2.CommandSummary) -> Requester | None:
    if not command.HasField("requested_by"):
        return None
    wire = command.requested_by
    return Requester(wire.kind, wire.subject, wire.on_behalf_of, wire.address)


def _attempts(wire: Sequence[command_pb2.Attempt]) -> tuple[Attempt, ...]:
    return tuple(
        Attempt(one.number, one.agent_id, _receipts(one.receipts), _reason(one.reason), one.started) for one in wire
    )


def _presence(wire: command_pb2.CommandState) -> AgentPresence | None:
    if not wire.HasField("agent_known"):
        return None
    away_since_ms = _ms(wire, "agent_away_since")
    return AgentPresence(wire.agent_known, wire.agent_known and not away_since_ms, away_since_ms)


def outcome_of(wire: command_service_pb2.QueueCommandOutcome, own_key: bool) -> values.QueueOutcome:
    """The outcome of one command of a batch. `own_key`: the caller chose the key, so report its earlier use."""
    if wire.WhichOneof("outcome") == "command_id":
        already_queued = wire.already_queued and own_key
        return values.Queued(wire.command_id, already_queued, wire.agent_connected, wire.agent_known)
    return error_of_outcome(wire.error)


def queued_of(
    wire: command_service_pb2.QueueCommandResponse | command_service_pb2.QueueCommandOutcome, own_key: bool
) -> values.Queued:
    """The outcome of a command that was queued again by itself. `own_key` as in `outcome_of`."""
    agent = _presence(wire.state) or AgentPresence(False, False, 0)
    return values.Queued(wire.command.command_id, wire.already_queued and own_key, agent.present, agent.known)


def retries_of(wire: command_service_pb2.RetryCommandsResponse) -> values.Retries:
    """The outcomes of a retry."""
    commands = [
        values.Retried(one.command_id, one.new_command_id or error_of_outcome(one.error)) for one in wire.commands
    ]
    return values.Retries(tuple(commands), wire.matched, wire.more)


def result_of(wire: command_pb2.CommandResult) -> CommandResult:
    """A result as a value."""
    return CommandResult(
        command_id=wire.command_id,
        agent_id=wire.agent_id,
        type=wire.type,
        status=_known(STATUS_FROM_WIRE, wire.status),
        attempt=wire.attempt,
        reason=_reason(wire.reason),
        exit_code=wire.exit_code if wire.HasField("exit_code") else None,
        data=plain_value(wire.data),
        output_bytes=wire.output_bytes,
        output_dropped_bytes=wire.output_dropped_bytes,
        finished_ms=_ms(wire, "finish_time"),
        attempts=_attempts(wire.attempts),
    )


def update_of(wire: command_service_pb2.WatchCommandResponse) -> Update | None:
    """One update of a watch; None for a kind that this version does not know."""
    match wire.WhichOneof("update"):
        case "command":
            return state_of(wire.command)
        case "output":
            return _chunk(wire.output)
        case "gap":
            return OutputGap(wire.gap.begin_offset, wire.gap.end_offset)
        case "result":
            return result_of(wire.result)
        case _:
            return None


def agent_of(wire: command_service_pb2.Agent) -> AgentInfo:
    """An agent as a value."""
    status = _known(AGENT_STATUS_FROM_WIRE, wire.status)
    return AgentInfo(
        agent_id=wire.agent_id,
        epoch=wire.epoch,
        present=status is not AgentStatus.OFFLINE,
        capacity=wire.capacity,
        running=wire.running,
        queued=wire.queued,
        types=tuple(wire.types),
        labels=dict(wire.labels),
        version=wire.agent_version,
        connected_ms=_ms(wire, "connect_time"),
        last_seen_ms=_ms(wire, "last_seen_time"),
        away_since_ms=_ms(wire, "away_since"),
        revision=wire.revision,
        journal_id=wire.journal_id,
        problems=tuple((problem.code, problem.message) for problem in wire.problems),
        handler_lag_ms=wire.handler_lag.ToMilliseconds(),
        draining=status is AgentStatus.DRAINING,
        degraded=status is AgentStatus.DEGRADED,
        slots_used=wire.slots_used,
    )


def _known(table: Mapping[N, T], number: N) -> T:
    if number not in table:
        raise DistributorError(
            f"the server sent the status {number}, which this client does not know; update the client"
        )
    return table[number]


def _chunk(wire: command_pb2.OutputChunk) -> OutputChunk:
    stream = STREAM_FROM_WIRE.get(wire.stream, OutputStream.STDOUT)
    return OutputChunk(stream, wire.offset, wire.data, _ms(wire, "receive_time"))


def _receipts(wire: command_pb2.Receipts) -> Receipts:
    return Receipts(
        _ms(wire, "queue_time"),
        _ms(wire, "assign_time"),
        _ms(wire, "send_time"),
        _ms(wire, "acknowledge_time"),
        _ms(wire, "start_time"),
        _ms(wire, "finish_time"),
    )


def _reason(wire: command_pb2.Reason) -> Reason:
    return Reason(wire.code, wire.message)


def _ms(message: Message, field: str) -> int:
    """The time in `field` of `message`. Most are unset, and asking is cheaper than creating an empty time."""
    if not message.HasField(field):
        return 0
    time: Timestamp = getattr(message, field)
    return bounded_ms(time)


def _fill_params(command: command_pb2.Command, params: Mapping[str, JsonValue]) -> None:
    try:
        fill_struct(command.params, params, "command.params")
    except NotJson as error:
        reason = "PARAMS_TOO_DEEP" if isinstance(error, TooDeep) else "INVALID_PARAMS"
        raise InvalidArgument(str(error), reason=reason, field=error.path) from error


def _sign(command: command_pb2.Command, signer: CommandSigner) -> None:
    if command.max_runs_by_reason:
        raise InvalidArgument(
            "command.max_runs_by_reason has no effect on signed commands: it lies outside the signature",
            reason="NOT_SIGNABLE",
            field="command.max_runs_by_reason",
        )
    signer.sign(command)


def _duration(seconds: float, field: str) -> Duration:
    duration = Duration()
    try:
        duration.FromMilliseconds(round(seconds * 1000))
    except (ValueError, OverflowError) as error:
        raise InvalidArgument(f"{field} cannot be {seconds} seconds", reason="INVALID_DURATION", field=field) from error
    return duration


def _too_large(wire: command_service_pb2.QueueCommandRequest) -> InvalidArgument:
    size = wire.command.params.ByteSize()
    return InvalidArgument(
        f"command.params is {size:,} bytes, the limit is {MAX_MESSAGE_BYTES:,} for a whole message "
        f"(servers accept {CommandLimits().max_params_bytes:,} by default, see max_params_bytes)",
        reason="PARAMS_TOO_LARGE",
        field="command.params",
    )


def _max_runs(number: int) -> int:
    # On the wire, 0 means the server's default, so the server could not refuse it.
    if not 1 <= number <= MAX_RUNS:
        raise InvalidArgument(
            f"command.max_runs must be 1 to {MAX_RUNS}, not {number:,}",
            reason="MAX_RUNS_OUT_OF_RANGE",
            field="command.max_runs",
        )
    return number


def _slots(number: int) -> int:
    # On the wire, 0 means 1, so the server could not refuse it.
    if not 1 <= number <= MAX_SLOTS:
        raise InvalidArgument(
            f"command.slots must be 1 to {MAX_SLOTS:,}, not {number:,}",
            reason="SLOTS_OUT_OF_RANGE",
            field="command.slots",
        )
    return number


def _int32(number: int, field: str) -> int:
    if not -_MAX_INT32 <= number <= _MAX_INT32:
        raise InvalidArgument(f"{field} cannot be {number}", reason="OUT_OF_RANGE", field=field)
    return number
