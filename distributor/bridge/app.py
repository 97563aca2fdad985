"""The routes of a bridge: /ws, /api, the page, and what operators look at."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import urlsplit

from starlette.applications import Starlette
from starlette.datastructures import Headers, MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from distributor.bridge.api import Api
from distributor.bridge.dashboard_session import (
    FAULT,
    TEXT_ONLY,
    TRY_LATER,
    CloseConnection,
    PeerGone,
    SessionServices,
    serve_dashboard,
)
from distributor.observability.http import Check, observability_app
from distributor.observability.logging import get_logger
from distributor.settings import is_loopback
from distributor.wire.documents import time_text

logger = get_logger()

PAGE: Final = Path(__file__).parents[1] / "page"
DEV_HEADER: Final = "X-Distributor-Dev"
MAX_CLOSE_REASON_BYTES: Final = 123
SECURITY_HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data:; font-src 'self'; base-uri 'none'; frame-ancestors 'none'; form-action 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".woff2": "font/woff2",
    ".map": "application/json",
}


class Admission(NamedTuple):
    """Limits on connections: origins allowed besides the bridge's own, and dashboards at once."""

    allowed_origins: tuple[str, ...]
    max_connections: int


class MintedToken(NamedTuple):
    """A token for the page; `expires` in seconds since the epoch."""

    token: str
    expires: int


def bridge_app(
    services: SessionServices,
    admission: Admission,
    checks: Mapping[str, Check],
    dev_token: Callable[[], MintedToken] | None = None,
) -> Starlette:
    """The app. With `dev_token`, the page of this very machine gets a token by asking."""
    for suffix, type_ in _TYPES.items():
        mimetypes.add_type(type_, suffix)
    api = Api(services.view, services.output, services.calls, services.verifier)
    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", ConnectionGate(services, admission).dashboard),
        Route("/ws", _upgrade_required),
        *observability_app(services.metrics.registry, checks).routes,
        *api.routes(),
    ]
    if dev_token is not None:
        routes.append(Route("/dev/token", _dev_token_route(dev_token)))
    routes.append(Mount("/", StaticFiles(directory=PAGE, html=True, check_dir=False)))
    return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders)])


class ConnectionGate:
    """Admits dashboards up to the limit; closes connections with a code and a sentence."""

    def __init__(self, services: SessionServices, admission: Admission) -> None:
        self._services = services
        self._admission = admission
        self._inside = 0

    async def dashboard(self, socket: WebSocket) -> None:
        """One connection."""
        if not _origin_permitted(socket.headers, self._admission.allowed_origins):
            await socket.send_denial_response(PlainTextResponse("this origin is not in allowed_origins\n", 403))
            return
        await socket.accept()
        self._inside += 1
        try:
            if self._inside > self._admission.max_connections:
                raise CloseConnection(TRY_LATER, f"there are {self._admission.max_connections:,} dashboards, the limit")
            await serve_dashboard(_SocketPeer(socket), self._services)
        except CloseConnection as closing:
            logger.info("closing a dashboard's connection", code=closing.code, why=closing.sentence)
            await self._close(socket, closing)
        except Exception:
            logger.exception("a dashboard's connection failed")
            await self._close(socket, CloseConnection(FAULT, "something failed in the bridge; its log says what"))
        finally:
            self._inside -= 1

    async def _close(self, socket: WebSocket, closing: CloseConnection) -> None:
        self._services.metrics.closed(closing.code)
        # It may have gone meanwhile.
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(closing.code, _fitting(closing.sentence))


def _fitting(sentence: str) -> str:
    """As much of it as a close frame has room for (RFC 6455, section 5.5)."""
    return sentence.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


class _SocketPeer:
    """A Peer on Starlette's WebSocket."""

    def __init__(self, socket: WebSocket) -> None:
        self._socket = socket

    async def receive(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise PeerGone
        text = message.get("text")
        if not isinstance(text, str):
            raise CloseConnection(TEXT_ONLY, "messages are text, not binary")
        return text

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except (RuntimeError, WebSocketDisconnect) as error:
            raise PeerGone from error


class _SecurityHeaders:
    """Puts SECURITY_HEADERS on every HTTP answer, and no-store on all that is not part of the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cache = "no-store" if scope["path"].startswith(("/api", "/dev")) else "no-cache"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", cache)
            await send(message)

        await self._app(scope, receive, send_with_headers)


async def _upgrade_required(_: Request) -> Response:
    return PlainTextResponse(
        "this is a WebSocket: connect with the upgrade\n", 426, {"Upgrade": "websocket", "Connection": "Upgrade"}
    )


def _dev_token_route(dev_token: Callable[[], MintedToken]) -> Callable[[Request], Response]:
    def token(request: Request) -> Response:
        if not _asked_by_our_page(request):
            return PlainTextResponse("only for the page itself, on this machine\n", 403)
        minted = dev_token()
        return JSONResponse({"token": minted.token, "expireTime": time_text(minted.expires * 1000)})

    return token


def _asked_by_our_page(request: Request) -> bool:
    """Neither another site (it cannot set the header unasked) nor a name that was bound to this machine's address."""
    return (
        request.headers.get(DEV_HEADER) == "1"
        and request.headers.get("sec-fetch-site", "none") in ("same-origin", "none")
        and request.client is not None
        and is_loopback(request.client.host)
        and is_loopback(_host_of(f"//{request.headers.get('host', '')}").name)
    )


def _origin_permitted(headers: Headers, allowed: tuple[str, ...]) -> bool:
    """Programs send no Origin; of pages, those of our own host and those that the operator named."""
    origin = headers.get("origin")
    if origin is None or origin in allowed or "*" in allowed:
        return True
    return _host_of(origin).netloc == headers.get("host", "").lower() != ""


class _Host(NamedTuple):
    """Where an URL points to: as it stands there, and without a port. Both empty where the URL is malformed."""

    netloc: str = ""
    name: str = ""


def _host_of(url: str) -> _Host:
    try:
        parts = urlsplit(url)
        return _Host(parts.netloc.lower(), parts.hostname or "")
    except ValueError:
        return _Host()
