"""The routes of a bridge: /ws, /api, the page, health and metrics."""

from __future__ import annotations

import contextlib
import mimetypes
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple
from urllib.parse import unquote_to_bytes

from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.middleware import Middleware
from starlette.requests import HTTPConnection, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import BaseRoute, Mount, Route, WebSocketRoute
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from starlette.websockets import WebSocket, WebSocketDisconnect

from distributor.bridge.api import Api
from distributor.bridge.audit_notes import AuditNotes
from distributor.bridge.credentials import CredentialCheck, address_of
from distributor.bridge.dashboard_session import (
    FAULT,
    TEXT_ONLY,
    TRY_LATER,
    CloseConnection,
    PeerGone,
    SessionServices,
    serve_dashboard,
)
from distributor.bridge.own_page import is_from_this_machine, origin_permitted
from distributor.bridge.web_session import WebSession
from distributor.errors import DistributorError, PermissionDenied, ResourceExhausted, Unauthenticated
from distributor.identity.caller import Caller
from distributor.identity.permissions import ROUTES
from distributor.observability.http import Check, observability_app
from distributor.observability.logging import get_logger
from distributor.wire.documents import time_text

logger = get_logger()

PAGE: Final = Path(__file__).parents[1] / "page"
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
_DEV_TOKEN: Final = "/dev/token"
_TOKEN_NAMES: Final = frozenset({b"token", b"access_token", b"id_token", b"jwt", b"authorization"})
_TYPES: Final = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".woff2": "font/woff2",
    ".map": "application/json",
}


class Admission(NamedTuple):
    """Connection limits: origins allowed besides the bridge's own, and concurrent dashboards."""

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
    """Build the ASGI app. With `dev_token`, /dev/token issues tokens to the page on this machine."""
    for suffix, type_ in _TYPES.items():
        mimetypes.add_type(type_, suffix)
    web_session = WebSession(
        services.credentials,
        admission.allowed_origins,
        (lambda: dev_token().token) if dev_token is not None else None,
        services.notes,
    )
    api = Api(services.view, services.output, services.calls, services.credentials, services.notes, services.users)
    metrics_door = services.credentials.metrics_door(_RefusalNotes(services.notes))
    routes: list[BaseRoute] = [
        WebSocketRoute("/ws", ConnectionGate(services, admission).dashboard),
        Route("/ws", _upgrade_required),
        *observability_app(services.metrics.registry, checks, metrics_door.admit).routes,
        web_session.route(),
        *api.routes(),
    ]
    if dev_token is not None:
        routes.append(Route(_DEV_TOKEN, _dev_token_route(dev_token, services.notes)))
    routes.append(Mount("/", StaticFiles(directory=PAGE, html=True, check_dir=False)))
    refusing = Middleware(_NoTokenInQuery, notes=services.notes)
    return Starlette(routes=routes, middleware=[Middleware(_SecurityHeaders), refusing])


class _RefusalNotes:
    """Notes refusals at /metrics. Scrapes that are admitted are not recorded at a bridge."""

    def __init__(self, notes: AuditNotes) -> None:
        self._notes = notes

    def admitted(self, caller: Caller, now: float) -> None:
        pass

    def refused(self, error: DistributorError, caller: Caller, address: str, what: str) -> None:
        self._notes.refused(error, what, caller.subject, address)


class ConnectionGate:
    """Admits dashboards up to the limit and closes connections with a code and reason."""

    def __init__(self, services: SessionServices, admission: Admission) -> None:
        self._services = services
        self._admission = admission
        self._connected = 0

    async def dashboard(self, socket: WebSocket) -> None:
        """Serve one connection."""
        if not origin_permitted(socket.headers, self._admission.allowed_origins):
            refusal = PermissionDenied("this origin is not in allowed_origins", reason="FOREIGN_ORIGIN")
            self._services.notes.refused(refusal, "/ws", address=address_of(socket))
            await socket.send_denial_response(PlainTextResponse("this origin is not in allowed_origins\n", 403))
            return
        await socket.accept()
        self._connected += 1
        try:
            if self._connected > self._admission.max_connections:
                sentence = f"the limit of {self._admission.max_connections:,} dashboards is reached"
                excess = ResourceExhausted(sentence, reason="TOO_MANY_DASHBOARDS")
                self._services.notes.refused(excess, "/ws", address=address_of(socket))
                raise CloseConnection(TRY_LATER, sentence)
            await serve_dashboard(_SocketPeer(socket, self._services.credentials), self._services)
        except CloseConnection as closing:
            logger.info("closing dashboard connection", code=closing.code, reason=closing.reason)
            await self._close(socket, closing)
        except Exception:
            logger.exception("dashboard connection failed")
            await self._close(socket, CloseConnection(FAULT, "internal error in the bridge; see its log"))
        finally:
            self._connected -= 1

    async def _close(self, socket: WebSocket, closing: CloseConnection) -> None:
        self._services.metrics.closed(closing.code)
        # The dashboard may have disconnected.
        with contextlib.suppress(RuntimeError, WebSocketDisconnect):
            await socket.close(closing.code, _truncated(closing.reason))


def _truncated(sentence: str) -> str:
    """Truncate to the size of a close reason (RFC 6455, section 5.5)."""
    return sentence.encode()[:MAX_CLOSE_REASON_BYTES].decode(errors="ignore")


class _SocketPeer:
    """Adapts Starlette's WebSocket to Peer."""

    def __init__(self, socket: WebSocket, credentials: CredentialCheck) -> None:
        self._socket = socket
        self.address = address_of(socket)
        self.session_token = credentials.session_token(socket)

    async def receive(self) -> str:
        message = await self._socket.receive()
        if message["type"] == "websocket.disconnect":
            raise PeerGone
        text = message.get("text")
        if not isinstance(text, str):
            raise CloseConnection(TEXT_ONLY, "messages must be text, not binary")
        return text

    async def send(self, text: str) -> None:
        try:
            await self._socket.send_text(text)
        except (RuntimeError, WebSocketDisconnect) as error:
            raise PeerGone from error


class _SecurityHeaders:
    """Adds SECURITY_HEADERS to every HTTP response, and no-store outside the page."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        cache = "no-store" if scope["path"].startswith(("/api", "/dev", "/session")) else "no-cache"

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in SECURITY_HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", cache)
            await send(message)

        await self._app(scope, receive, send_with_headers)


class _NoTokenInQuery:
    """Refuses requests with a token in their address, which logs, histories and proxies keep."""

    def __init__(self, app: ASGIApp, notes: AuditNotes) -> None:
        self._app = app
        self._notes = notes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and _names_token(scope.get("query_string", b"")):
            path = scope["path"] if scope["path"] in ROUTES else ""
            refusal = Unauthenticated("a token must not be in the address", reason="TOKEN_IN_ADDRESS")
            self._notes.refused(refusal, path, address=address_of(HTTPConnection(scope)))
            response = PlainTextResponse("a token must not be in the address: send it in a message or a header\n", 400)
            if scope["type"] == "websocket":
                await WebSocket(scope, receive, send).send_denial_response(response)
            else:
                await response(scope, receive, send)
            return
        await self._app(scope, receive, send)


def _names_token(query: bytes) -> bool:
    names = (part.partition(b"=")[0] for part in query.replace(b";", b"&").split(b"&"))
    return any(unquote_to_bytes(name).strip().lower() in _TOKEN_NAMES for name in names)


async def _upgrade_required(_: Request) -> Response:
    return PlainTextResponse(
        "this is a WebSocket endpoint: send an Upgrade request\n",
        426,
        {"Upgrade": "websocket", "Connection": "Upgrade"},
    )


def _dev_token_route(dev_token: Callable[[], MintedToken], notes: AuditNotes) -> Callable[[Request], Response]:
    def token(request: Request) -> Response:
        if not is_from_this_machine(request):
            refusal = PermissionDenied("only for the bridge's own page on this machine", reason="FOREIGN_ORIGIN")
            notes.refused(refusal, _DEV_TOKEN, address=address_of(request))
            return PlainTextResponse("only for the bridge's own page on this machine\n", 403)
        minted = dev_token()
        return JSONResponse({"token": minted.token, "expireTime": time_text(minted.expires * 1000)})

    return token
