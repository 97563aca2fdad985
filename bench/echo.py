"""A gRPC echo server. Prints its address."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc

from bench.event_loop import loop_factory
from distributor.app.signals import StopSignals
from distributor.wire.transport import server_options

SERVICE = "bench.Echo"
UNARY = f"/{SERVICE}/Unary"
STREAM = f"/{SERVICE}/Stream"

Context = grpc.aio.ServicerContext[Any, Any]


async def _unary(request: bytes, _: Context) -> bytes:
    return request


async def _stream(_: object, context: Context) -> None:
    while (message := await context.read()) is not grpc.aio.EOF:
        await context.write(message)


async def run() -> None:
    """Serve until a signal."""
    handlers: dict[str, Any] = {
        "Unary": grpc.unary_unary_rpc_method_handler(_unary),
        "Stream": grpc.stream_stream_rpc_method_handler(_stream),
    }
    server = grpc.aio.server(
        options=server_options(), handlers=[grpc.method_handlers_generic_handler(SERVICE, handlers)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    with StopSignals() as signals:
        await server.start()
        print(f"127.0.0.1:{port}", flush=True)
        await signals.wait()
        await server.stop(0)


if __name__ == "__main__":
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        runner.run(run())
