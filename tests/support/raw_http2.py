"""HTTP/2 frames by hand, for what no library would send. See RFC 9113."""

from __future__ import annotations

import asyncio
import struct
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final, NamedTuple

PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
CANCEL: Final = 8
MAX_FRAME_BYTES: Final = 16_384


class Frame(NamedTuple):
    """A received frame."""

    kind: int
    flags: int
    stream: int
    payload: bytes


def frame(kind: int, payload: bytes = b"", flags: int = 0, stream: int = 0) -> bytes:
    """Encode a frame."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def field(name: str, value: bytes) -> bytes:
    """Encode a header field: literal, not indexed, without Huffman coding (RFC 7541, section 6.2.2)."""
    return b"\x00" + _length(len(name)) + name.encode() + _length(len(value)) + value


def call_headers(path: str, *more: tuple[str, bytes]) -> bytes:
    """Encode the header fields of a gRPC call."""
    usual = [(":method", b"POST"), (":scheme", b"http"), (":path", path.encode()), (":authority", b"raw")]
    grpc = [("te", b"trailers"), ("content-type", b"application/grpc")]
    return b"".join(field(name, value) for name, value in [*usual, *grpc, *more])


def opened_call(path: str, stream: int, *more: tuple[str, bytes]) -> bytes:
    """Encode the HEADERS frame that begins a gRPC call."""
    return frame(HEADERS, call_headers(path, *more), END_HEADERS, stream)


def message(body: bytes, length: int | None = None) -> bytes:
    """Encode a gRPC message; `length` is what its prefix claims."""
    return struct.pack(">BI", 0, len(body) if length is None else length) + body


class RawConnection:
    """A TCP connection on which a test writes and reads bytes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *parts: bytes) -> bool:
        """Write; return False if the peer has closed the connection."""
        try:
            self._writer.writelines(parts)
            await self._writer.drain()
        except ConnectionError:
            return False
        return not self._writer.is_closing()

    async def frames(self) -> AsyncIterator[Frame]:
        """Yield received frames until the peer closes."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self._reader.readexactly(9)
                size = int.from_bytes(head[:3], "big")
                kind, flags, stream = struct.unpack(">BBI", head[3:])
                yield Frame(kind, flags, stream, await self._reader.readexactly(size))

    async def closed(self) -> bytes:
        """Wait until the peer closes; return what it had sent."""
        received = bytearray()
        with suppress(ConnectionError):
            while data := await self._reader.read(65_536):
                received += data
        return bytes(received)

    async def read_to(self, text: bytes) -> bytes:
        """Read until `text` came. Raises IncompleteReadError if the peer closes before."""
        return await self._reader.readuntil(text)

    def is_closed(self) -> bool:
        """Whether the peer has closed the connection, and all that it had sent is read."""
        return self._reader.at_eof() or self._writer.is_closing()


@asynccontextmanager
async def raw_connection(address: str, greeting: Sequence[bytes] = ()) -> AsyncIterator[RawConnection]:
    """Connect to host:port and send the greeting; aborted at the end."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port), limit=1 << 22)
    try:
        connection = RawConnection(reader, writer)
        await connection.send(*greeting)
        yield connection
    finally:
        writer.transport.abort()
        with suppress(ConnectionError):
            await writer.wait_closed()


GREETING: Final = (PREFACE, frame(SETTINGS))
"""What a client of HTTP/2 says first."""


def _length(number: int) -> bytes:
    """Encode an integer with a prefix of 7 bits (RFC 7541, section 5.1)."""
    if number < 127:
        return bytes([number])
    encoded, number = bytearray([127]), number - 127
    while number > 127:
        encoded.append(number & 127 | 128)
        number >>= 7
    return bytes([*encoded, number])
