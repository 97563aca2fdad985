"""Reads what may be compressed in Valkey. Other programs write there too, so decompression is bounded."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Sequence
from typing import Final

from distributor.errors import DistributorError
from distributor.model.delivery import Claim
from distributor.model.json_value import JsonValue
from distributor.tasks import off_loop
from distributor.wire.compression import CorruptGzip, GzipTooLarge, decompressed, is_gzip

MAX_PLAIN_BYTES: Final = 1_048_576
"""Limit for a decompressed command, result or piece of output; no server stores one that is larger."""

INFLATION: Final = 10
"""Bytes of work per compressed byte, to decide whether to decompress in a thread."""


async def read_command(stored: bytes) -> bytes:
    """Return a stored command decompressed, as `plain_command` does; a large one in a thread."""
    return await off_loop(len(stored) * INFLATION, plain_command, stored) if is_gzip(stored) else stored


def unpacked_claims(claims: Sequence[Claim]) -> Awaitable[list[Claim]] | None:
    """Return claims with their commands decompressed, large ones in a thread; None if none is compressed."""
    packed = sum([len(one.encoded) for claim in claims for one in claim.commands if is_gzip(one.encoded)])
    return off_loop(packed * INFLATION, _plain_claims, claims) if packed else None


def result_work(text: bytes) -> int:
    """Return the bytes of work that reading a stored result takes."""
    return len(text) * (INFLATION if b'"dataGzip"' in text else 1)


def plain_command(stored: bytes) -> bytes:
    """Return a stored command decompressed. What is not valid gzip stays as it is, and cannot be parsed either."""
    if not is_gzip(stored):
        return stored
    try:
        return decompressed(stored, MAX_PLAIN_BYTES)
    except (CorruptGzip, GzipTooLarge):
        return stored


def _plain_claims(claims: Sequence[Claim]) -> list[Claim]:
    return [
        claim._replace(commands=[one._replace(encoded=plain_command(one.encoded)) for one in claim.commands])
        for claim in claims
    ]


def plain_data(packed: str) -> JsonValue:
    """Return the data of a result from its member `dataGzip`. Raises DistributorError if it is not valid."""
    try:
        data: JsonValue = json.loads(decompressed(base64.b64decode(packed, validate=True), MAX_PLAIN_BYTES))
    except (binascii.Error, CorruptGzip, GzipTooLarge, ValueError) as error:
        raise DistributorError(f"the stored result cannot be read: {error}", reason="STORE_ERROR") from error
    return data


def plain_output(packed: bytes, size: int) -> bytes | None:
    """Return `size` bytes of output decompressed; None if they are not valid gzip of that size."""
    if not 0 < size <= MAX_PLAIN_BYTES:
        return None
    try:
        plain = decompressed(packed, size)
    except (CorruptGzip, GzipTooLarge):
        return None
    return plain if len(plain) == size else None
