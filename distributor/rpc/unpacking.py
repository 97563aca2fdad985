"""Decompresses requests, with errors for their sender."""

from __future__ import annotations

from typing import Any

from distributor.errors import InvalidArgument
from distributor.rpc.malformed import Malformed, tolerant
from distributor.wire.compression import CorruptGzip, GzipTooLarge
from distributor.wire.message_packer import MessagePacker


async def unpacked(packer: MessagePacker, request: Any) -> Any:
    """Return `request` decompressed if it is compressed. Raises InvalidArgument if that fails."""
    if not request.gzip:
        return request
    try:
        plain = await packer.unpack(request, tolerant(type(request).FromString))
    except GzipTooLarge as error:
        raise InvalidArgument(f"gzip is too large: {error}", field="gzip", reason="DECOMPRESSED_TOO_LARGE") from error
    except CorruptGzip as error:
        raise InvalidArgument(
            f"gzip cannot be decompressed: {error}", field="gzip", reason="MALFORMED_MESSAGE"
        ) from error
    if isinstance(plain, Malformed):
        raise plain.error
    return plain
