"""Builds messages as a server sends them."""

from __future__ import annotations

from typing import Any, Final

from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

CONFORMANCE: Final = "CONFORMANCE"
"""The command type that an agent under test offers besides PING."""
HALT_REASON: Final = "conformance"


def welcome(
    *,
    heartbeat_interval: float = 10.0,
    start_within: float = 15.0,
    verdicts: tuple[gateway.HeldCommandVerdict, ...] = (),
    accepts_gzip: bool = False,
    epoch: int = 1,
    halt: str = "",
    **limits: int,
) -> gateway.ConnectResponse:
    """A Welcome with the defaults of a real server.

    Times are in seconds. `halt` is the id of an emergency stop in force.
    `limits` are `max_output`, `max_chunk` and `max_result`, in bytes.
    """
    message = gateway.ConnectResponse()
    message.welcome.epoch = epoch
    message.welcome.heartbeat_interval.FromNanoseconds(int(heartbeat_interval * 1e9))
    message.welcome.start_within.FromNanoseconds(int(start_within * 1e9))
    message.welcome.limits.max_result_bytes = limits.pop("max_result", 262_144)
    message.welcome.limits.max_output_chunk_bytes = limits.pop("max_chunk", 65_536)
    message.welcome.limits.max_unacknowledged_output_bytes = limits.pop("max_output", 262_144)
    if limits:
        raise TypeError(f"there are no limits {', '.join(limits)}")
    message.welcome.verdicts.extend(verdicts)
    message.welcome.accepts_gzip = accepts_gzip
    if halt:
        message.welcome.halt.CopyFrom(gateway.Halt(stop_id=halt, reason=HALT_REASON))
    return message


def verdict(command_id: str, decision: gateway.Verdict.ValueType, output_offset: int = 0) -> gateway.HeldCommandVerdict:
    """What becomes of a command that a Hello lists."""
    return gateway.HeldCommandVerdict(command_id=command_id, verdict=decision, output_offset=output_offset)


def assignment(
    command_id: str,
    command_type: str = "PING",
    *,
    time_limit: float | None = 300.0,
    idle_limit: float | None = None,
    attempt: int = 1,
    **params: Any,
) -> gateway.Assignment:
    """A command as a server assigns it, under the lease `lease-<id>-<attempt>`. Limits are in seconds."""
    command = command_pb2.Command(command_id=command_id, agent_id="agent123", type=command_type)
    command.params.update(params)
    if time_limit is not None:
        command.time_limit.FromNanoseconds(int(time_limit * 1e9))
    if idle_limit is not None:
        command.idle_limit.FromNanoseconds(int(idle_limit * 1e9))
    return gateway.Assignment(command=command, attempt=attempt, lease_id=f"lease-{command_id}-{attempt}")
