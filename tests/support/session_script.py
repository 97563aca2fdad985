"""Shorthand for tests of the agent's session state."""

from __future__ import annotations

from typing import Any

from distributor.agent.actions import RefusedCommand
from distributor.agent.agent_profile import AgentProfile
from distributor.agent.record import CommandRecord
from distributor.agent.session_state import SessionState
from distributor.model.command import Reason
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from tests.support.scripted_gateway import assignment, welcome

OUT = command_pb2.OUTPUT_STREAM_STDOUT
PROFILE = AgentProfile(
    "agent123",
    "instance",
    capacity=2,
    types=("PRINT", "SLOW", "PING", "STOP"),
    inline_types=frozenset({"PRINT", "PING", "STOP"}),
    labels={"zone": "a"},
    agent_version="test",
    denied={"EXEC": Reason("exec_not_allowed", "this host does not allow EXEC")},
)


def opened(record: CommandRecord | None = None, now: float = 0.0) -> SessionState:
    """A session whose Hello was sent and welcomed at `now`, and which has sent its first heartbeat."""
    state = SessionState(PROFILE, record or CommandRecord())
    state.hello(now)
    state.receive(welcome(), now)
    message = state.take()
    assert message
    assert message.heartbeat.sequence == 1
    return state


def work(command_id: str, command_type: str = "PRINT", attempt: int = 1) -> gateway.Assignment:
    """A command that takes up room, and whose handler is called at once."""
    return assignment(command_id, command_type, attempt=attempt)


def commands(*assignments: gateway.Assignment, after_heartbeat: int = 0) -> gateway.ConnectResponse:
    return gateway.ConnectResponse(commands=gateway.Commands(assignments=assignments, after_heartbeat=after_heartbeat))


def taken(state: SessionState) -> gateway.ConnectRequest:
    message = state.take()
    assert message
    return message


def refusal(state: SessionState, message: gateway.ConnectResponse, now: float = 0.0) -> gateway.Refused:
    actions = state.receive(message, now)
    (refused,) = taken(state).refused
    (given,) = message.commands.assignments
    assert actions == [RefusedCommand(refused.command_id, given.attempt, refused.reason.code)]
    return refused


def finish(state: SessionState, record: CommandRecord, command_id: str, **fields: Any) -> None:
    record.finish(gateway.Result(command_id=command_id, **fields))
    state.finished(command_id, 0.0)


def acknowledged(
    *command_ids: str, verdict: gateway.ResultVerdict.ValueType = gateway.RESULT_VERDICT_STORED
) -> gateway.ConnectResponse:
    acks = [gateway.ResultAck(command_id=command_id, verdict=verdict) for command_id in command_ids]
    return gateway.ConnectResponse(result_acks=acks)
