"""Finds out how large a body an HTTP endpoint accepts."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from distributor.observability.http import HttpEndpoint
from distributor.observability.http_protocol import HttpLimits
from tests.support.raw_http2 import raw_connection
from tests.support.waiting import PATIENCE_SECONDS

PIECE: Final = 1_000


async def read_all(scope: Scope, receive: Receive, send: Send) -> None:
    """An app that answers once it has the whole body. The routes of bridges and servers answer before."""
    await Request(scope, receive).body()
    await PlainTextResponse("read")(scope, receive, send)


async def largest_body(limits: HttpLimits, *sizes: int) -> int:
    """The largest of these sizes, in bytes, that an endpoint with these limits reads to its end; 0 if none."""
    endpoint = HttpEndpoint("127.0.0.1:0", read_all, limits=limits)
    await endpoint.start()
    try:
        return max([size for size in sizes if await _is_read(endpoint.port, size)], default=0)
    finally:
        await endpoint.stop()


async def _is_read(port: int, size: int) -> bool:
    head = b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % size
    async with asyncio.timeout(PATIENCE_SECONDS), raw_connection(f"127.0.0.1:{port}", [head]) as connection:
        for _ in range(size // PIECE):
            await connection.send(bytes(PIECE))
        return (await connection.closed()).endswith(b"read")
