"""Fills Valkey with finished commands by the functions that servers use, in large batches instead of through gRPC."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from bench.findings import BenchFailed
from bench.load import queue_request
from distributor.app.server_stores import Stores, stores_on
from distributor.model.agent import AgentHello
from distributor.model.delivery import ClaimRequest, Completion, CompletionOutcome, OutputPiece, Progress
from distributor.model.ids import CommandIdMint
from distributor.model.lifecycle import CommandStatus
from distributor.model.queueing import NewCommand, QueueOutcome
from distributor.observability.metrics import Metrics
from distributor.rpc.queue_request import CommandDefaults, new_command
from distributor.settings import ServerSettings
from distributor.store.connections import StoreConnections

BATCH = 250
"""Commands per function call."""
CONCURRENT = 4
"""Agents filled at once."""


async def fill(valkey_url: str, agent_ids: Sequence[str], commands: int, output: bytes = b"") -> None:
    """Queue, assign and complete `commands` small commands in all for these agents, which must not be attached.

    Each prints `output`, in one piece.

    Does nothing for a negative number. Raises BenchFailed if a command does not complete.
    """
    commands = max(0, commands)
    shares = [commands // len(agent_ids) + (n < commands % len(agent_ids)) for n in range(len(agent_ids))]
    some = asyncio.Semaphore(CONCURRENT)
    mint = CommandIdMint()
    async with _stores(valkey_url) as stores, asyncio.TaskGroup() as group:

        async def fill_one(agent_id: str, count: int) -> None:
            async with some:
                await _AgentFill(stores, mint, agent_id, output).run(count)

        for agent_id, share in zip(agent_ids, shares, strict=True):
            group.create_task(fill_one(agent_id, share))


async def finished_commands(valkey_url: str) -> int:
    """Return the number of completed commands that Valkey remembers."""
    async with _stores(valkey_url) as stores:
        return (await stores.reader.depth()).by_status[CommandStatus.COMPLETED]


class _AgentFill:
    """Completes commands of one agent, over a session of its own."""

    def __init__(self, stores: Stores, mint: CommandIdMint, agent_id: str, output: bytes) -> None:
        self._stores = stores
        self._mint = mint
        self._agent_id = agent_id
        self._output = output
        self._request = queue_request(agent_id)
        self._new = new_command(self._request, "", CommandDefaults(ServerSettings()))

    async def run(self, count: int) -> None:
        hello = AgentHello(self._agent_id, secrets.token_hex(8), BATCH, (), {}, "bench", ())
        epoch = (await self._stores.sessions.attach(hello)).epoch
        for first in range(0, count, BATCH):
            await self._complete(epoch, min(BATCH, count - first))
        await self._stores.sessions.detach([(self._agent_id, epoch)])

    async def _complete(self, epoch: int, count: int) -> None:
        store, lease_id = self._stores.commands, secrets.token_hex(8)
        for enqueued in await store.enqueue([self._command() for _ in range(count)]):
            if enqueued.outcome is not QueueOutcome.QUEUED:
                raise BenchFailed(f"a command could not be queued: {enqueued.outcome}")
        (claim,) = await store.claim([ClaimRequest(self._agent_id, epoch, count, lease_id)])
        if self._output:
            await self._stores.output_log.append(
                [
                    OutputPiece(command.command_id, self._agent_id, lease_id, 1, 0, self._output)
                    for command in claim.commands
                ]
            )
        completions = [
            Completion(
                Progress(command.command_id, self._agent_id, lease_id, 1, 1, 1),
                CommandStatus.COMPLETED,
                exit_code=0,
                output_bytes=len(self._output),
                ran=True,
            )
            for command in claim.commands
        ]
        outcomes = await store.finish(completions)
        if [*outcomes] != [CompletionOutcome.STORED] * count:
            raise BenchFailed(f"{count} commands were queued, and finishing them gave {outcomes}")

    def _command(self) -> NewCommand:
        command_id = self._mint.mint(time.time_ns() // 1_000_000, secrets.randbits(62))
        self._request.command.command_id = command_id
        return self._new._replace(command_id=command_id, encoded=self._request.command.SerializeToString())


@asynccontextmanager
async def _stores(valkey_url: str) -> AsyncIterator[Stores]:
    connections = StoreConnections.to(valkey_url)
    stores = stores_on(connections, ServerSettings(), f"fill-{secrets.token_hex(3)}", Metrics())
    try:
        await stores.functions.load()
        yield stores
        await stores.exchanges.idle()
    finally:
        await connections.close()
