"""What a Python service imports to queue commands, wait for them, watch, cancel and list them.

    from distributor.client import CommandClient, CommandRequest

Everything here is a plain typed value or the client itself; failures are errors of `distributor.errors`, and a
`TimeoutError` where a wait was bounded.
"""

from __future__ import annotations

from distributor.client.command_client import CommandClient
from distributor.client.options import ClientOptions, Reach
from distributor.client.values import (
    CommandFilter,
    CommandRequest,
    OutputChunk,
    OutputGap,
    Page,
    Queued,
    QueuedCommand,
    QueueOutcome,
    Update,
)
from distributor.model.agent import AgentInfo, AgentPresence, AgentStatus
from distributor.model.command import Command, CommandResult, CommandState, OfflinePolicy, Reason, Receipts
from distributor.model.delivery import OutputStream
from distributor.model.json_value import JsonValue
from distributor.model.lifecycle import CommandStatus

__all__ = [
    "AgentInfo",
    "AgentPresence",
    "AgentStatus",
    "ClientOptions",
    "Command",
    "CommandClient",
    "CommandFilter",
    "CommandRequest",
    "CommandResult",
    "CommandState",
    "CommandStatus",
    "JsonValue",
    "OfflinePolicy",
    "OutputChunk",
    "OutputGap",
    "OutputStream",
    "Page",
    "QueueOutcome",
    "Queued",
    "QueuedCommand",
    "Reach",
    "Reason",
    "Receipts",
    "Update",
]
