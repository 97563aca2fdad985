"""Converts between messages of CommandService and model values."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias

from google.protobuf.timestamp_pb2 import Timestamp

from distributor.errors import InvalidArgument
from distributor.model.agent import AgentInfo, AgentPresence, AgentStatus
from distributor.model.command import Attempt, CommandResult, CommandState, Reason, Receipts
from distributor.model.delivery import OutputChunk, OutputGap, Update
from distributor.model.lifecycle import CommandStatus
from distributor.model.listing import CommandFilter
from distributor.model.queueing import Enqueued
from distributor.model.requester import Requester
from distributor.v1 import command_pb2, command_service_pb2
from distributor.wire.enums import (
    AGENT_STATUS_FROM_WIRE,
    AGENT_STATUS_TO_WIRE,
    CANCEL_STAGE_TO_WIRE,
    STATUS_FROM_WIRE,
    STATUS_TO_WIRE,
    STREAM_TO_WIRE,
)
from distributor.wire.json_values import fill_received
from distributor.wire.secret_params import hide_secrets

QueueAnswer: TypeAlias = command_service_pb2.QueueCommandResponse | command_service_pb2.QueueCommandOutcome

_NANOS = 1_000_000_000
_FIRST_SECOND, _LAST_SECOND = -62_135_596_800, 253_402_300_799
"""The years 1 to 9999, the range defined by google/protobuf/timestamp.proto."""


def fill_command(message: command_pb2.Command, state: CommandState, encoded: bytes | None) -> None:
    """Write a command into `message`, without secrets: all of it, or what its state still holds if it was forgotten."""
    if encoded is not None:
        message.ParseFromString(encoded)
        hide_secrets(message)
        return
    message.command_id = state.command_id
    message.agent_id = state.agent_id
    message.type = state.type
    message.priority = state.priority
    if state.requested_by is not None:
        fill_requester(message.requested_by, state.requested_by)


def fill_state(message: command_pb2.CommandState, state: CommandState) -> None:
    """Write a state into `message`."""
    message.status = STATUS_TO_WIRE[state.status]
    message.attempt = state.attempt
    message.revision = state.revision
    _fill_receipts(message.receipts, state.receipts)
    if state.cancel_ms:
        fill_time(message.cancel_time, state.cancel_ms)
    if state.cancel_stage is not None:
        message.cancel_stage = CANCEL_STAGE_TO_WIRE[state.cancel_stage]
    if state.reason.code:
        _fill_reason(message.reason, state.reason)
    if state.progress_ms:
        fill_time(message.progress_time, state.progress_ms)
    for ended in state.attempts:
        _fill_attempt(message.attempts.add(), ended)


def _fill_attempt(message: command_pb2.Attempt, attempt: Attempt) -> None:
    message.number, message.agent_id, message.started = attempt.number, attempt.agent_id, attempt.started
    _fill_receipts(message.receipts, attempt.receipts)
    if attempt.reason.code:
        _fill_reason(message.reason, attempt.reason)


def _fill_receipts(message: command_pb2.Receipts, receipts: Receipts) -> None:
    queued, assigned, sent, acknowledged, started, finished = receipts
    if queued:
        fill_time(message.queue_time, queued)
    if assigned:
        fill_time(message.assign_time, assigned)
        if sent:
            fill_time(message.send_time, sent)
        if acknowledged:
            fill_time(message.acknowledge_time, acknowledged)
        if started:
            fill_time(message.start_time, started)
    if finished:
        fill_time(message.finish_time, finished)


def fill_presence(message: command_pb2.CommandState, agent: AgentPresence) -> None:
    """Write the presence of the agent into the state of a command that has not ended."""
    message.agent_known = agent.known
    if agent.away_since_ms:
        fill_time(message.agent_away_since, agent.away_since_ms)


def fill_queued(answer: QueueAnswer, command: command_pb2.Command, queued: Enqueued) -> None:
    """Write a command that has just been queued into the answer to its request."""
    answer.command.CopyFrom(command)
    hide_secrets(answer.command)
    state = answer.state
    state.status = STATUS_TO_WIRE[CommandStatus.QUEUED]
    state.revision = 1
    fill_time(state.receipts.queue_time, queued.queued_ms)
    fill_presence(state, queued.agent)
    state.output_bytes = 0


def fill_summary(message: command_service_pb2.CommandSummary, state: CommandState) -> None:
    """Write one row of a list into `message`."""
    message.command_id = state.command_id
    message.agent_id = state.agent_id
    message.type = state.type
    message.priority = state.priority
    message.params_summary = state.params_summary
    if state.requested_by is not None:
        fill_requester(message.requested_by, state.requested_by)
    fill_state(message.state, state)


def fill_requester(message: command_pb2.Requester, requester: Requester) -> None:
    """Write who queued a command into `message`."""
    message.kind, message.subject, message.on_behalf_of, message.address = requester


def fill_result(message: command_pb2.CommandResult, result: CommandResult) -> None:
    """Write a result into `message`."""
    message.command_id = result.command_id
    message.agent_id = result.agent_id
    message.type = result.type
    message.status = STATUS_TO_WIRE[result.status]
    message.attempt = result.attempt
    if result.reason.code:
        _fill_reason(message.reason, result.reason)
    if result.exit_code is not None:
        message.exit_code = result.exit_code
    if result.data is not None:
        fill_received(message.data, result.data)
    message.output_bytes = result.output_bytes
    message.output_dropped_bytes = result.output_dropped_bytes
    fill_time(message.finish_time, result.finished_ms)
    for attempt in result.attempts:
        _fill_attempt(message.attempts.add(), attempt)


def watch_response(command_id: str, update: Update) -> command_service_pb2.WatchCommandResponse:
    """Build one message of a watch."""
    message = command_service_pb2.WatchCommandResponse()
    match update:
        case CommandState():
            fill_summary(message.command, update)
        case OutputChunk():
            message.output.command_id = command_id
            message.output.stream = STREAM_TO_WIRE[update.stream]
            message.output.offset = update.offset
            message.output.data = update.data
            fill_time(message.output.receive_time, update.received_ms)
        case OutputGap():
            message.gap.begin_offset, message.gap.end_offset = update
        case CommandResult():
            fill_result(message.result, update)
    return message


def query(message: command_service_pb2.CommandFilter) -> CommandFilter:
    """Convert a filter. Raises InvalidArgument for an unknown status or an invalid time."""
    statuses = []
    for wire in message.statuses:
        if wire not in STATUS_FROM_WIRE:
            raise unknown_enum_value("filter.statuses", wire)
        statuses.append(STATUS_FROM_WIRE[wire])
    return CommandFilter(
        agent_id=message.agent_id,
        statuses=tuple(dict.fromkeys(statuses)),
        type=message.type,
        queued_after_ms=time_ms(message.queued_after, "filter.queued_after")
        if message.HasField("queued_after")
        else None,
        queued_before_ms=time_ms(message.queued_before, "filter.queued_before")
        if message.HasField("queued_before")
        else None,
    )


def agent_statuses(values: Iterable[command_service_pb2.AgentStatus.ValueType]) -> set[AgentStatus]:
    """Convert agent statuses. Raises InvalidArgument for an unknown one."""
    wanted = set()
    for wire in values:
        if wire not in AGENT_STATUS_FROM_WIRE:
            raise unknown_enum_value("statuses", wire)
        wanted.add(AGENT_STATUS_FROM_WIRE[wire])
    return wanted


def unknown_enum_value(field: str, value: int) -> InvalidArgument:
    """The error for an enum number that is unknown or not allowed here."""
    return InvalidArgument(f"{field} has no value {value}", field=field, reason="UNKNOWN_ENUM_VALUE")


def fill_agent(message: command_service_pb2.Agent, agent: AgentInfo) -> None:
    """Write what is known about an agent into `message`."""
    message.agent_id = agent.agent_id
    message.status = AGENT_STATUS_TO_WIRE[agent.status]
    message.epoch = agent.epoch
    message.revision = agent.revision
    message.capacity = agent.capacity
    message.running = agent.running
    message.slots_used = agent.slots_used
    message.queued = agent.queued
    message.types.extend(agent.types)
    message.labels.update(agent.labels)
    fill_time(message.connect_time, agent.connected_ms)
    fill_time(message.last_seen_time, agent.last_seen_ms)
    if agent.away_since_ms:
        fill_time(message.away_since, agent.away_since_ms)
    message.agent_version = agent.version
    message.journal_id = agent.journal_id
    message.handler_lag.FromMilliseconds(agent.handler_lag_ms)
    for code, text in agent.problems:
        message.problems.add(code=code, message=text)


def _fill_reason(message: command_pb2.Reason, reason: Reason) -> None:
    message.code, message.message = reason


def fill_time(message: Timestamp, ms: int) -> None:
    """Write milliseconds since the epoch into `message`."""
    message.seconds = ms // 1000
    message.nanos = ms % 1000 * 1_000_000


def time_ms(time: Timestamp, field: str) -> int:
    """Convert a time to milliseconds since the epoch. Raises InvalidArgument for one that is malformed."""
    if not (_FIRST_SECOND <= time.seconds <= _LAST_SECOND and 0 <= time.nanos < _NANOS):
        raise InvalidArgument(
            f"{field} must be a time in the years 1 to 9999 with 0 to 999,999,999 nanos, "
            f"not {time.seconds:,} seconds and {time.nanos:,} nanos",
            field=field,
            reason="INVALID_TIMESTAMP",
        )
    return time.seconds * 1000 + time.nanos // 1_000_000
