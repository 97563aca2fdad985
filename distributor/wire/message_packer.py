"""Compresses and decompresses whole messages, which carry their compressed form in their field `gzip`.

gRPC's own compression does not fit: it compresses on the event loop (8 ms for 256 KiB), cannot be switched per message
by an agent, and does not report sizes. docs/decisions/0017 has the measurements.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar, cast

from google.protobuf.message import Message

from distributor.tasks import off_loop
from distributor.wire.compression import Compression, CorruptGzip, compressed, decompressed
from distributor.wire.transport import MAX_MESSAGE_BYTES

Observe = Callable[[int, int], None]
"""Called with the size of a message before and after compression, in bytes; equal if it stayed plain."""


M = TypeVar("M", bound=Message)
"""A message with a field `gzip`, which the stubs of protobuf cannot express."""


def unobserved(plain_bytes: int, packed_bytes: int) -> None:
    """Observe nothing."""


class MessagePacker:
    """Packs the messages of one kind of peer. Large ones are compressed and decompressed in a thread."""

    def __init__(
        self,
        compression: Compression,
        sent: Observe = unobserved,
        received: Observe = unobserved,
        max_plain_bytes: int = MAX_MESSAGE_BYTES,
    ) -> None:
        """Messages that would decompress to more than `max_plain_bytes` are refused."""
        self._max_plain_bytes = max_plain_bytes
        self._threshold = compression.threshold_bytes
        self.enabled: Final = compression.enabled
        """Whether to compress, and to ask the peer for compressed messages. Those that come are always unpacked."""
        self._sent = sent
        self._received = received

    async def pack(self, message: M, parts: int = 1) -> M:
        """Return `message` compressed, or `message` itself if it is small or compression saves too little.

        `message` is small if its `parts`, such as commands, are on average smaller than the threshold.
        """
        if not self.enabled:
            return message
        size = message.ByteSize()
        if size < self._threshold * parts:
            return message
        packed = await off_loop(size, _packed, message)
        self._sent(size, len(packed) if packed else size)
        if not packed:
            return message
        wrapper: Any = type(message)()
        wrapper.gzip = packed
        return cast(M, wrapper)

    async def unpack(self, message: Any, parse: Callable[[bytes], Any]) -> Any:
        """Return `message` decompressed and parsed; `message` itself if it is not compressed.

        Raises GzipTooLarge beyond the size limit of plain messages, CorruptGzip, and what `parse` raises.
        """
        packed: bytes = message.gzip
        if not packed:
            return message
        # The size of the plain message is unknown, and up to a thousand times as large.
        plain_bytes, parsed = await off_loop(len(packed) * 10, _parsed, packed, parse, self._max_plain_bytes)
        self._received(plain_bytes, len(packed))
        return parsed


PLAIN: Final = MessagePacker(Compression(enabled=False))
"""Compresses nothing."""


def _packed(message: Message) -> bytes | None:
    return compressed(message.SerializeToString())


def _parsed(packed: bytes, parse: Callable[[bytes], Any], max_plain_bytes: int) -> tuple[int, Any]:
    plain = decompressed(packed, max_plain_bytes)
    parsed = parse(plain)
    if getattr(parsed, "gzip", b""):
        raise CorruptGzip("the compressed message has a compressed message in it")
    return len(plain), parsed
