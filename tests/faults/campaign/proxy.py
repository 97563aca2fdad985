"""A TCP proxy that delays, holds, throttles and cuts what passes between two processes."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Self

CHUNK_BYTES: Final = 65_536
CHUNKS_IN_TRANSIT: Final = 4
"""Per connection and direction. Beyond, the sender is no longer read, as with a full socket buffer."""

_END: Final = b""


class Lane:
    """One direction of all connections of a proxy.

    While held, nothing passes, not even the end of a connection: what was sent arrives when the lane is released, as
    TCP would send it again. `caught_bytes` counts what was held, delayed or throttled: the proof that a fault bit.
    """

    def __init__(self) -> None:
        self.delay_seconds = 0.0
        self.bytes_per_second = 0.0
        """0 is unlimited."""
        self.caught_bytes = 0
        self._free = asyncio.Event()
        self._free.set()

    def hold(self) -> None:
        """Let nothing pass."""
        self._free.clear()

    def release(self) -> None:
        """Deliver what was held, and everything from now on without delay."""
        self.delay_seconds = self.bytes_per_second = 0.0
        self._free.set()

    @property
    def disturbed(self) -> bool:
        """Whether it does anything but forward."""
        return bool(self.delay_seconds or self.bytes_per_second or not self._free.is_set())

    async def passes(self, size: int, read_at: float) -> None:
        """Wait until `size` bytes that were read at `read_at` may be delivered."""
        if self.disturbed:
            self.caught_bytes += size
        loop = asyncio.get_running_loop()
        if self.delay_seconds:
            await asyncio.sleep(max(0.0, read_at + self.delay_seconds - loop.time()))
        if self.bytes_per_second:
            await asyncio.sleep(size / self.bytes_per_second)
        await self._free.wait()


class Proxy:
    """Listens on a port of its own; connects each client to one of `targets` that accepts, in turn.

    `up` is the lane from clients to targets, `down` the way back. Targets are "host:port", or the path of a socket.
    """

    def __init__(self, targets: Callable[[], Sequence[str]]) -> None:
        self.up, self.down = Lane(), Lane()
        self.port = 0
        self.cut_connections = 0
        self._targets = targets
        self._turn = 0
        self._server: asyncio.Server | None = None
        self._transports: set[asyncio.WriteTransport] = set()
        self._serving: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._server is not None:
            self._server.close()
        self.release()
        self.cut()
        for task in self._serving:
            task.cancel()
        if self._serving:
            await asyncio.wait(self._serving)

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Number of clients connected."""
        return len(self._transports) // 2

    @property
    def caught_bytes(self) -> int:
        """Bytes that were held, delayed or throttled in either direction."""
        return self.up.caught_bytes + self.down.caught_bytes

    def hold(self) -> None:
        """Let nothing pass in either direction."""
        self.up.hold()
        self.down.hold()

    def release(self) -> None:
        """Let everything pass again."""
        self.up.release()
        self.down.release()

    def cut(self) -> int:
        """Reset all connections; return how many. New ones are accepted."""
        cut = self.connections
        self.cut_connections += cut
        for transport in self._transports:
            _reset(transport)
        return cut

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            await self._connect(reader, writer)
        except asyncio.CancelledError:
            # asyncio reports a cancelled handler as an error. Nothing waits for it.
            pass
        finally:
            self._serving.discard(task)
            writer.close()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await self._open()
        if inner is None:
            return
        inner_reader, inner_writer = inner
        transports = {writer.transport, inner_writer.transport}
        self._transports |= transports
        try:
            await asyncio.gather(_pump(reader, inner_writer, self.up), _pump(inner_reader, writer, self.down))
        finally:
            self._transports -= transports
            inner_writer.close()

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter] | None:
        targets = self._targets()
        self._turn += 1
        for place in range(len(targets)):
            target = targets[(self._turn + place) % len(targets)]
            with suppress(OSError):
                if target.startswith("/"):
                    return await asyncio.open_unix_connection(target)
                host, _, port = target.rpartition(":")
                return await asyncio.open_connection(host, int(port))
        return None


def _reset(transport: asyncio.WriteTransport) -> None:
    """End a connection as the death of a peer does. One that has ended already is left alone."""
    socket_ = transport.get_extra_info("socket")
    if not transport.is_closing() and socket_ is not None:
        socket_.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, lane: Lane) -> None:
    """Carry one direction of a connection to its end."""
    transit: asyncio.Queue[tuple[bytes, float]] = asyncio.Queue(CHUNKS_IN_TRANSIT)
    receiving = asyncio.create_task(_receive(reader, transit))
    try:
        while True:
            data, read_at = await transit.get()
            await lane.passes(len(data), read_at)
            if data == _END:
                writer.write_eof()
                return
            writer.write(data)
            await writer.drain()
    except (ConnectionError, RuntimeError, OSError):
        # The other end is gone: the other direction ends as well.
        _reset(writer.transport)
    finally:
        receiving.cancel()
        await asyncio.wait([receiving])


async def _receive(reader: asyncio.StreamReader, transit: asyncio.Queue[tuple[bytes, float]]) -> None:
    loop = asyncio.get_running_loop()
    data = b"-"
    while data != _END:
        try:
            data = await reader.read(CHUNK_BYTES)
        except ConnectionError:
            data = _END
        await transit.put((data, loop.time()))
