"""HTTP in the running event loop: /metrics for Prometheus, /healthz and /readyz for whoever restarts and routes."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from distributor.wire.listening import listening_socket

Check = Callable[[], str | None]
"""Says in one sentence what is wrong, or None. Must not block."""

_NOT_CACHED: Final = {"Cache-Control": "no-store"}
_OPTIONS: Final[Mapping[str, Any]] = {
    "http": "h11",
    "ws": "none",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 1,
}


def observability_app(registry: CollectorRegistry, checks: Mapping[str, Check]) -> Starlette:
    """The routes. /healthz says that the process runs; /readyz is 503 while any of `checks` finds fault."""

    async def metrics(request: Request) -> Response:
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encode(registry), headers={"Content-Type": content_type, **_NOT_CACHED})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_NOT_CACHED)

    async def readyz(_: Request) -> Response:
        faults = {name: check() for name, check in checks.items()}
        ready = not any(faults.values())
        answer = {"ready": ready, "checks": {name: fault or "ok" for name, fault in faults.items()}}
        return JSONResponse(answer, status_code=200 if ready else 503, headers=_NOT_CACHED)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


class HttpEndpoint:
    """Serves an app inside the running event loop. Signals stay with the process: whoever starts it stops it."""

    def __init__(self, address: str, app: ASGIApp, *, setting: str = "http_listen", **options: Any) -> None:
        """`setting` is what errors call the address; `options` are uvicorn's, where not those of plain HTTP."""
        self._address = address
        self._app = app
        self._setting = setting
        self._options = {**_OPTIONS, **options}
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0
        """The port in use once started; tells what became of port 0."""

    @property
    def connections(self) -> int:
        """How many connections are open, of any kind."""
        return len(self._server.server_state.connections) if self._server is not None else 0

    async def start(self) -> None:
        """Return once requests are answered. Raises ConfigurationError, naming the port, where it cannot listen."""
        listener = listening_socket(self._address, self._setting)
        self.port = listener.getsockname()[1]
        self._server = _Server(uvicorn.Config(self._app, **self._options))
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http endpoint")
        await self._server.ready.wait()

    async def stop(self) -> None:
        """Stop listening, and give what is under way `timeout_graceful_shutdown` seconds (1) to end.

        Closes WebSockets with 1012. Does nothing where it was not started.
        """
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers, and able to say when it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()
