"""The Python client: queue commands, wait for them, watch, cancel and list them.

    from distributor.client import CommandClient, CommandRequest

Exports the client and the values that it takes and returns. Failures raise errors of `distributor.errors`; a bounded
wait raises `TimeoutError`.
"""

from __future__ import annotations

from distributor.client.command_client import CommandClient
from distributor.client.options import ClientOptions, Connectivity
from distributor.client.queued_command import QueuedCommand
from distributor.client.signing import CommandSigner
from distributor.client.values import Queued, QueueOutcome, Retried, Retries
from distributor.model.agent import AgentInfo, AgentPresence, AgentStatus
from distributor.model.command import Attempt, Command, CommandResult, CommandState, OfflinePolicy, Reason, Receipts
from distributor.model.delivery import OutputChunk, OutputGap, OutputStream, Update
from distributor.model.json_value import JsonValue
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.listing import CommandFilter, Page
from distributor.model.queueing import CommandRequest
from distributor.wire.compression import Compression
from distributor.wire.credentials import ClientCredentials

__all__ = [
    "AgentInfo",
    "AgentPresence",
    "AgentStatus",
    "Attempt",
    "CancelStage",
    "ClientCredentials",
    "ClientOptions",
    "Command",
    "CommandClient",
    "CommandFilter",
    "CommandRequest",
    "CommandResult",
    "CommandSigner",
    "CommandState",
    "CommandStatus",
    "Compression",
    "Connectivity",
    "JsonValue",
    "OfflinePolicy",
    "OutputChunk",
    "OutputGap",
    "OutputStream",
    "Page",
    "QueueOutcome",
    "Queued",
    "QueuedCommand",
    "Reason",
    "Receipts",
    "Retried",
    "Retries",
    "Update",
]
