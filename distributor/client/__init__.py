"""What a Python service imports to queue commands, wait for them, watch, cancel and list them.

    from distributor.client import CommandClient, CommandRequest

Everything here is a plain typed value or the client itself; failures are errors of `distributor.errors`, and a
`TimeoutError` where a wait was bounded.
"""

from __future__ import annotations

from distributor.client.command_client import CommandClient
from distributor.client.options import ClientOptions, Reach
from distributor.client.values import (
    Agent,
    Command,
    CommandFilter,
    CommandRequest,
    CommandResult,
    CommandState,
    CommandSummary,
    OutputChunk,
    OutputGap,
    OutputStream,
    Page,
    Queued,
    QueuedCommand,
    QueueOutcome,
    Update,
)
from distributor.model.agent import AgentStatus
from distributor.model.command import OfflinePolicy, Reason, Receipts
from distributor.model.lifecycle import CommandStatus
from distributor.wire.json_values import JsonValue

__all__ = [
    "Agent",
    "AgentStatus",
    "ClientOptions",
    "Command",
    "CommandClient",
    "CommandFilter",
    "CommandRequest",
    "CommandResult",
    "CommandState",
    "CommandStatus",
    "CommandSummary",
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
