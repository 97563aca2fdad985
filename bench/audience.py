"""Many dashboards in one process. They use raw frames and only record arrivals, so that the bridge dominates."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import struct
import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, cast

from bench.findings import BenchFailed
from distributor.settings import split_address

TEXT, PING, PONG = 1, 9, 10
RECEIVE_SECONDS = 120.0
_TYPE_BEGINS = len('{"type":"')


class Audience:
    """A number of dashboards that subscribe to all commands, connected inside this async context manager."""

    def __init__(self, address: str, token: str, count: int) -> None:
        self._address = address
        self._token = token
        self._count = count
        self._dashboards: list[_Dashboard] = []
        self._received_counts: Counter[str] = Counter()
        self._changed = asyncio.Event()
        self._leaving = False
        self._lost = False
        self.messages: list[tuple[int, str, bytes]] = []
        """Arrival time (nanoseconds since 1970), type and payload of each message."""

    async def __aenter__(self) -> Self:
        host, port = split_address(self._address)
        loop = asyncio.get_running_loop()
        for _ in range(self._count):
            _, dashboard = await loop.create_connection(lambda: _Dashboard(host, self._note, self._left), host, port)
            self._dashboards.append(dashboard)
            await dashboard.upgraded
        self.send_all("dashboard:connect", token=self._token, subscribe={"commands": ["*"]})
        await self.wait_for_all("connected")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leaving = True
        for dashboard in self._dashboards:
            dashboard.close()

    def send_all(self, type_: str, **fields: Any) -> None:
        """Send a message from each dashboard."""
        payload = json.dumps({"type": type_, "version": "1.0.0", **fields}).encode()
        for dashboard in self._dashboards:
            dashboard.send(TEXT, payload)

    async def wait_for_all(self, type_: str, times: int = 1) -> None:
        """Wait until each dashboard has received `times` messages of a type since `clear()`. Raises BenchFailed."""
        async with asyncio.timeout(RECEIVE_SECONDS):
            while self._received_counts[type_] < times * self._count:
                if self._lost:
                    raise BenchFailed("the bridge closed the connection of a dashboard")
                self._changed.clear()
                await self._changed.wait()

    def clear(self) -> None:
        """Clear the recorded messages."""
        self.messages.clear()
        self._received_counts.clear()

    def _note(self, payload: bytes) -> None:
        now = time.time_ns()
        type_ = payload[_TYPE_BEGINS : payload.index(b'"', _TYPE_BEGINS)].decode()
        self.messages.append((now, type_, payload))
        self._received_counts[type_] += 1
        self._changed.set()

    def _left(self) -> None:
        self._lost = not self._leaving
        self._changed.set()


class _Dashboard(asyncio.Protocol):
    """One connection: the subset of RFC 6455 that a bridge's messages need."""

    def __init__(self, host: str, on_message: Callable[[bytes], None], on_close: Callable[[], None]) -> None:
        self._host = host
        self._on_message = on_message
        self._on_close = on_close
        self._received = b""
        self.upgraded = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # uvloop's transport is one, but its type does not say so.
        self._transport = cast("asyncio.WriteTransport", transport)
        key = base64.b64encode(os.urandom(16)).decode()
        self._transport.write(
            f"GET /ws HTTP/1.1\r\nHost: {self._host}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )

    def data_received(self, data: bytes) -> None:
        self._received += data
        if not self.upgraded.done():
            answer, end, rest = self._received.partition(b"\r\n\r\n")
            if not end:
                return
            self._received = rest
            if not answer.startswith(b"HTTP/1.1 101"):
                self.upgraded.set_exception(BenchFailed(f"the bridge answered {answer.splitlines()[0].decode()}"))
                return
            self.upgraded.set_result(None)
        while (frame := _first_frame(self._received)) is not None:
            opcode, begin, end_of_frame = frame
            payload, self._received = self._received[begin:end_of_frame], self._received[end_of_frame:]
            if opcode == TEXT:
                self._on_message(payload)
            elif opcode == PING:
                self.send(PONG, payload)

    def connection_lost(self, error: Exception | None) -> None:
        if not self.upgraded.done():
            self.upgraded.set_exception(BenchFailed("the bridge closed the connection of a dashboard"))
        self._on_close()

    def send(self, opcode: int, payload: bytes) -> None:
        """Send a frame of less than 64 KiB. Clients must mask frames; the mask here is zero."""
        size = len(payload)
        length = struct.pack("!B", 0x80 | size) if size < 126 else struct.pack("!BH", 0x80 | 126, size)
        self._transport.write(bytes([0x80 | opcode]) + length + bytes(4) + payload)

    def close(self) -> None:
        self._transport.close()


def _first_frame(data: bytes) -> tuple[int, int, int] | None:
    """Return opcode, begin and end of the first frame's payload; None if the frame is incomplete."""
    if len(data) < 2:
        return None
    size, begin = data[1] & 127, 2
    if size >= 126:
        begin = 4 if size == 126 else 10
        size = int.from_bytes(data[2:begin])
    return (data[0] & 15, begin, begin + size) if len(data) >= begin + size else None
