"""The actions that the session decides on and the runtime performs."""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

from distributor.v1 import agent_gateway_pb2 as gateway


class StopCause(Enum):
    """Why a running handler is asked to end."""

    CANCELLED = "cancelled"
    TIME_LIMIT = "time_limit"
    IDLE_LIMIT = "idle_limit"
    ORPHANED = "orphaned"
    AGENT_STOPPED = "agent_stopped"
    DISOWNED = "disowned"
    HALTED = "emergency_stop"


class StartCommand(NamedTuple):
    """Call the handler. The command is already in the record."""

    assignment: gateway.Assignment


class RefusedCommand(NamedTuple):
    """A command was refused with the reason `code`. The session itself reports it to the server."""

    command_id: str
    attempt: int
    code: str


class StopCommand(NamedTuple):
    """Ask the handler to end."""

    command_id: str
    cause: StopCause


class OutputRoom(NamedTuple):
    """The command may have room for more output."""

    command_id: str


class SessionOpened(NamedTuple):
    """The server said Welcome. `overruled_labels` names labels of the agent that do not count as in its Hello."""

    epoch: int
    server_version: str
    overruled_labels: tuple[str, ...] = ()


class IdentityContested(NamedTuple):
    """Another instance, at `peer` if known, says Hello with this agent's id."""

    peer: str


class CertificateAnswered(NamedTuple):
    """The server has answered a certificate request."""

    reply: gateway.CertificateReply


class ServerDrains(NamedTuple):
    """After this many seconds, look for another server and move there."""

    reconnect_after: float


class ServerStops(NamedTuple):
    """Finish running work, then leave for good."""

    reason: str


Action = (
    StartCommand
    | RefusedCommand
    | StopCommand
    | OutputRoom
    | SessionOpened
    | ServerDrains
    | ServerStops
    | IdentityContested
    | CertificateAnswered
)
