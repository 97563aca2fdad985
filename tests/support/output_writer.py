"""Writes output of a running command directly to the store: for large amounts, in tests of readers."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from distributor.model.delivery import OutputPiece
from distributor.store.connections import StoreConnections
from distributor.store.exchanges import Exchanges
from distributor.store.functions import Functions
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.v1 import agent_gateway_pb2


@asynccontextmanager
async def output_log(valkey_url: str, kept: int) -> AsyncIterator[ValkeyOutputLog]:
    """The output log, which keeps so many bytes of each command."""
    connections = StoreConnections.to(valkey_url)
    policy = StorePolicy(output_kept_bytes=kept)
    try:
        functions = Functions(connections.functions, "test", policy)
        yield ValkeyOutputLog(connections.reads, functions, Exchanges(functions), policy)
    finally:
        await connections.close()


def output_piece(assignment: agent_gateway_pb2.Assignment, offset: int, data: bytes) -> OutputPiece:
    """Bytes that the agent of an assignment printed to stdout."""
    command = assignment.command
    return OutputPiece(command.command_id, command.agent_id, assignment.lease_id, 1, offset, data)
