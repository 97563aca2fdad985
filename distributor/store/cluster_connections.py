"""Connections to the shards of a Valkey Cluster: each goes to the primary that serves the shard's slot at present."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, Generic, Protocol, TypeVar

import valkey.exceptions as driver

from distributor.errors import DistributorError, Unavailable
from distributor.settings.store_address import Host, StoreAddress
from distributor.store.cluster_map import ClusterMap
from distributor.store.connections import StoreConnections, blocking_connection
from distributor.store.pipelined_connection import PipelinedConnection
from distributor.store.shard_tags import slot_of
from distributor.store.valkey_connection import Argument, ValkeyConnection

MAX_MOVES: Final = 5
"""How often a call follows a slot that moves."""
FUNCTION_CALLS: Final = frozenset({"FCALL", "FCALL_RO"})


class Closable(Protocol):
    """A connection."""

    async def close(self) -> None:
        """Close it."""


Connection = TypeVar("Connection", bound=Closable)


class Nodes(Generic[Connection]):
    """One connection, or pool, of a kind to each primary; opened when it is needed first."""

    def __init__(self, map_: ClusterMap, address: StoreAddress, open_: Callable[[str], Connection]) -> None:
        """`open_` makes the connection to a URL."""
        self.map = map_
        self.shown_url = str(address.hosts[0])
        self._address = address
        self._open = open_
        self._connections: dict[Host, Connection] = {}

    def serving(self, slot: int) -> Connection:
        """The connection to the primary of a slot. Raises Unavailable if none is known."""
        return self.to(self.map.primary(slot))

    def to(self, host: Host) -> Connection:
        """The connection to a node."""
        connection = self._connections.get(host)
        if connection is None:
            self._connections[host] = connection = self._open(self._address.url_of(host))
        return connection

    async def close(self) -> None:
        """Close all connections."""
        for connection in self._connections.values():
            await connection.close()


class ShardPipeline:
    """What PipelinedConnection is for one Valkey, for one shard of a cluster. Exchanges are of this shard only.

    Calls that meet a slot which has moved did nothing, and go to where it is. Nothing else is sent twice. Keyless
    commands go to the primary of the shard.
    """

    def __init__(self, nodes: Nodes[PipelinedConnection], slot: int) -> None:
        self._nodes = nodes
        self._slot = slot
        self._known: tuple[PipelinedConnection, int] | None = None
        self._number = 0

    @property
    def shown_url(self) -> str:
        """What to show of the address."""
        return self._nodes.shown_url

    @property
    def number(self) -> int:
        """The ordinal number of the latest connection to the latest primary."""
        try:
            node = self._nodes.serving(self._slot)
        except Unavailable:
            return self._number
        if self._known != (node, node.number):
            self._known = (node, node.number)
            self._number += 1
        return self._number

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply. Raises the error of an error reply."""
        (reply,) = await self.submit((arguments,))
        if isinstance(reply, DistributorError):
            raise reply
        return reply

    async def exchange(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together and return their replies."""
        return await self.submit(commands) if commands else []

    def submit(self, commands: Sequence[tuple[Argument, ...]]) -> asyncio.Future[list[Any]]:
        """Send commands at once and return a future of the replies."""
        result: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        self._send(commands, result, 0)
        return result

    async def close(self) -> None:
        """Nothing: the nodes are closed together."""

    def _send(self, commands: Sequence[tuple[Argument, ...]], result: asyncio.Future[list[Any]], moves: int) -> None:
        try:
            replies = self._nodes.serving(self._slot).submit(commands)
        except Unavailable as error:
            result.set_exception(error)
            return
        replies.add_done_callback(partial(self._replied, commands, result, moves))

    def _replied(
        self,
        commands: Sequence[tuple[Argument, ...]],
        result: asyncio.Future[list[Any]],
        moves: int,
        replied: asyncio.Future[list[Any]],
    ) -> None:
        if result.done():
            # Its caller has gone. Consume the exception so that asyncio does not warn.
            replied.exception()
            return
        error = replied.exception()
        if error is not None:
            # Its replica may have been promoted.
            self._nodes.map.look_soon()
            result.set_exception(error)
            return
        replies = replied.result()
        moved = next((host for reply in replies if (host := moved_to(reply)) is not None), None)
        if moved is None:
            result.set_result(replies)
            return
        self._nodes.map.moved(self._slot, moved)
        if moves == MAX_MOVES or not _nothing_happened(commands, replies):
            result.set_exception(_moving())
            return
        self._send(commands, result, moves + 1)


class ShardReads:
    """What ValkeyConnection is for one Valkey, for one shard of a cluster."""

    def __init__(self, nodes: Nodes[ValkeyConnection], slot: int) -> None:
        self._nodes = nodes
        self._slot = slot

    @property
    def shown_url(self) -> str:
        """What to show of the address."""
        return self._nodes.shown_url

    async def call(self, *arguments: Argument) -> Any:
        """Send one command and return its reply."""
        return await self._followed(lambda node: node.call(*arguments))

    async def calls(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands together and return their replies. Raises the first error."""
        replies: list[Any] = await self._followed(lambda node: node.calls(commands))
        return replies

    async def close(self) -> None:
        """Nothing: the nodes are closed together."""

    async def _followed(self, call: Callable[[ValkeyConnection], Awaitable[Any]]) -> Any:
        for _ in range(MAX_MOVES + 1):
            try:
                return await call(self._nodes.serving(self._slot))
            except Unavailable as error:
                moved = moved_to(error)
                if moved is None:
                    # Its replica may have been promoted.
                    self._nodes.map.look_soon()
                    raise
                self._nodes.map.moved(self._slot, moved)
        raise _moving()


class ClusterConnections:
    """The connections of one process to a cluster, by shard. Open it before use, and close it."""

    def __init__(self, address: StoreAddress) -> None:
        """Does not connect yet. Raises ConfigurationError for an invalid URL."""
        self.map = ClusterMap(address)
        self._functions = Nodes(self.map, address, PipelinedConnection)
        self._replicas = Nodes(self.map, address, PipelinedConnection)
        self._reads = Nodes(self.map, address, ValkeyConnection)
        self._events = Nodes(self.map, address, blocking_connection)

    def of_shard(self, tag: str) -> StoreConnections:
        """The connections to the shard with this tag."""
        slot = slot_of(tag)
        return StoreConnections(
            ShardPipeline(self._functions, slot),
            ShardReads(self._reads, slot),
            ShardReads(self._events, slot),
            ShardPipeline(self._replicas, slot),
        )

    async def open(self) -> None:
        """Look at the cluster. Raises Unavailable if no node answers."""
        await self.map.look()

    async def close(self) -> None:
        """Close all connections."""
        await self.map.close()
        for nodes in (self._functions, self._replicas, self._reads, self._events):
            await nodes.close()


def moved_to(reply: object) -> Host | None:
    """Where the slot of a call is now, if that is what a node answered."""
    cause = reply.__cause__ if isinstance(reply, Unavailable) else None
    return Host(cause.host, int(cause.port)) if isinstance(cause, driver.MovedError) else None


def _nothing_happened(commands: Sequence[tuple[Argument, ...]], replies: Sequence[Any]) -> bool:
    """Whether the slot had moved before the first of these commands."""
    return all(
        moved_to(reply) is not None
        for command, reply in zip(commands, replies, strict=True)
        if command[0] in FUNCTION_CALLS
    )


def _moving() -> Unavailable:
    return Unavailable("Valkey moves this shard to another node", reason="STORE_UNAVAILABLE", retry_after_seconds=1.0)
