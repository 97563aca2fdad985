"""Serves HTTP on the running event loop: /metrics, /healthz and /readyz."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, Protocol, cast

import uvicorn
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from distributor.errors import DistributorError, PermissionDenied, ResourceExhausted, Unavailable
from distributor.observability.http_protocol import DEFAULT_LIMITS, HttpLimits, bounded_http
from distributor.wire.certificate_files import CertificateFiles
from distributor.wire.http_context import http_server_context
from distributor.wire.http_credentials import PEER_CERTIFICATE, HttpCredentials
from distributor.wire.http_refusal import refusal_headers
from distributor.wire.listening import listening_socket

Check = Callable[[], str | None]
"""Returns one sentence that describes the fault, or None if healthy. Must not block."""

_NOT_CACHED: Final = {"Cache-Control": "no-store"}
_OPTIONS: Final[Mapping[str, Any]] = {
    "ws": "none",
    "lifespan": "off",
    "log_config": None,
    "access_log": False,
    "server_header": False,
    "timeout_graceful_shutdown": 1,
}


Admit = Callable[[HttpCredentials], Awaitable[None]]
"""Raises Unauthenticated, PermissionDenied or Unavailable unless its credentials permit a request."""


async def everyone(_: HttpCredentials) -> None:
    """Admit all requests."""


class Observed(Protocol):
    """What is served over HTTP: one process, or several as one."""

    async def collect(self) -> Collector:
        """Return the metrics."""

    async def faults(self) -> Mapping[str, str | None]:
        """Return the fault of each check, None if it is healthy."""

    def is_ready(self, faults: Mapping[str, str | None]) -> bool:
        """Return whether what has these faults serves."""


class OwnProcess:
    """The metrics and the checks of this process. Any fault makes it not ready."""

    def __init__(self, registry: CollectorRegistry, checks: Mapping[str, Check]) -> None:
        self._registry = registry
        self._checks = checks

    async def collect(self) -> Collector:
        """Return the registry."""
        return self._registry

    async def faults(self) -> Mapping[str, str | None]:
        """Run the checks."""
        return {name: check() for name, check in self._checks.items()}

    def is_ready(self, faults: Mapping[str, str | None]) -> bool:
        """Return whether there is no fault."""
        return not any(faults.values())


def observability_app(registry: CollectorRegistry, checks: Mapping[str, Check], admit: Admit = everyone) -> Starlette:
    """Build the app of this process. /healthz is 200 while it runs; /readyz is 503 while a check reports a fault.

    `admit` decides who may read /metrics.
    """
    return app_of(OwnProcess(registry, checks), admit)


def app_of(observed: Observed, admit: Admit = everyone) -> Starlette:
    """Build the app that serves `observed`. `admit` decides who may read /metrics."""

    async def metrics(request: Request) -> Response:
        try:
            await admit(_credentials(request))
        except DistributorError as error:
            return _refusal(error)
        encode, content_type = choose_encoder(request.headers.get("accept", ""))
        # The encoders take whatever can `collect`.
        registry = cast(CollectorRegistry, await observed.collect())
        return Response(encode(registry), headers={"Content-Type": content_type, **_NOT_CACHED})

    async def healthz(_: Request) -> Response:
        return PlainTextResponse("ok\n", headers=_NOT_CACHED)

    async def readyz(_: Request) -> Response:
        faults = await observed.faults()
        ready = observed.is_ready(faults)
        answer = {"ready": ready, "checks": {name: fault or "ok" for name, fault in faults.items()}}
        return JSONResponse(answer, status_code=200 if ready else 503, headers=_NOT_CACHED)

    return Starlette(routes=[Route("/metrics", metrics), Route("/healthz", healthz), Route("/readyz", readyz)])


_STATUSES: Final = {PermissionDenied: 403, ResourceExhausted: 429, Unavailable: 503}


def _credentials(request: Request) -> HttpCredentials:
    return HttpCredentials(
        request.headers.get("authorization", ""),
        request.scope.get("state", {}).get(PEER_CERTIFICATE),
        request.client.host if request.client is not None else "",
    )


def _refusal(error: DistributorError) -> Response:
    status = _STATUSES.get(type(error), 401)
    return PlainTextResponse(f"{error.message}\n", status, refusal_headers(error) | _NOT_CACHED)


class HttpEndpoint:
    """Serves an ASGI app on the running event loop. Installs no signal handlers: its owner calls `stop`."""

    def __init__(
        self,
        address: str,
        app: ASGIApp,
        *,
        setting: str = "http_listen",
        tls: CertificateFiles | None = None,
        limits: HttpLimits = DEFAULT_LIMITS,
        **options: Any,
    ) -> None:
        """Errors name the address by `setting`. With `tls`, serves HTTPS. `options` override the uvicorn defaults."""
        self._address = address
        self._app = app
        self._setting = setting
        self.limits = limits
        self._options = {**_OPTIONS, "http": bounded_http(limits), **options}
        self._tls = tls
        self._server: _Server | None = None
        self._serving: asyncio.Task[None] | None = None
        self.port = 0
        """The port in use once started, also if the address has port 0."""

    @property
    def connections(self) -> int:
        """Number of open connections, WebSockets included."""
        return len(self._server.server_state.connections) if self._server is not None else 0

    async def start(self) -> None:
        """Start serving; return once requests are accepted.

        Raises ConfigurationError if the port is unavailable, or the certificate unusable.
        """
        context = http_server_context(self._tls) if self._tls is not None else None
        listener = listening_socket(self._address, self._setting)
        self.port = listener.getsockname()[1]
        config = uvicorn.Config(self._app, **self._options)
        config.load()
        # As an option, only the latest uvicorn takes a context.
        config.ssl = context
        self._server = _Server(config)
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="http endpoint")
        await self._server.ready.wait()

    def stop_listening(self) -> None:
        """Accept no more connections; serve those that are open until `stop`. Another program may use the address."""
        if self._server is not None:
            for listener in self._server.servers:
                listener.close()

    async def stop(self) -> None:
        """Stop listening, then wait up to `timeout_graceful_shutdown` seconds (default 1) for open requests.

        Closes WebSockets with 1012. Does nothing if not started.
        """
        if self._server is None or self._serving is None:
            return
        self._server.should_exit = True
        await self._serving
        self._server = self._serving = None


class _Server(uvicorn.Server):
    """uvicorn without signal handlers, with an event that is set once it serves."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.ready = asyncio.Event()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        self.ready.set()
