"""A bridge in the test's event loop, with dashboards and HTTP clients."""

from __future__ import annotations

import asyncio
import json
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from email.message import Message
from typing import Any, Final, NamedTuple

from distributor.app.bridge_process import BridgeProcess, serving_dashboards
from distributor.cli.token import TokenRequest, token_for
from distributor.settings import BridgeSettings
from distributor.settings.tokens import TokenSettings
from tests.support.dashboard_client import DashboardClient, dashboard_client
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

TOKEN_KEY: Final = "a key for nothing but tests, of 32 bytes at least"
READ, WRITE = "viewer", "operator"


class Answer(NamedTuple):
    """What an HTTP call got."""

    status: int
    headers: Message
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class RunningBridge:
    """A served BridgeProcess and what a test does with it."""

    def __init__(self, process: BridgeProcess, settings: BridgeSettings) -> None:
        self.process = process
        self.settings = settings

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.process.port}"

    @property
    def socket_url(self) -> str:
        return f"ws://{self.address}/ws"

    def token(self, *roles: str, subject: str = "alice", lifetime: str = "1h", **more: Any) -> str:
        """A token; one that may do everything where no roles are given."""
        return token_of(self.settings, *(roles or (READ, WRITE)), subject=subject, lifetime=lifetime, **more)

    @asynccontextmanager
    async def stranger(self, *, checked: bool = True, **options: Any) -> AsyncIterator[DashboardClient]:
        """A connection that has not said anything."""
        async with dashboard_client(self.socket_url, checked=checked, **options) as client:
            yield client

    @asynccontextmanager
    async def stranger_at(self, path: str) -> AsyncIterator[DashboardClient]:
        """A connection to another path than /ws, or with a query."""
        async with dashboard_client(f"ws://{self.address}{path}") as client:
            yield client

    @asynccontextmanager
    async def dashboard(self, *scopes: str, checked: bool = True, **fields: Any) -> AsyncIterator[DashboardClient]:
        """A connected dashboard; `fields` go into its dashboard:connect."""
        async with self.stranger(checked=checked) as client:
            await client.connect(self.token(*scopes), **fields)
            yield client

    async def get(self, path: str, token: str | None = "", **headers: str) -> Answer:
        """GET, with a token that may read unless another or None is given."""
        if token is not None:
            headers["Authorization"] = f"Bearer {token or self.token(READ)}"
        return await self.call("GET", path, headers)

    async def call(self, method: str, path: str, headers: Mapping[str, str], document: object = None) -> Answer:
        """Any request; `document` is sent as JSON."""
        body = None if document is None else json.dumps(document).encode()
        every = {**headers, **({"Content-Type": "application/json"} if body is not None else {})}
        request = urllib.request.Request(f"http://{self.address}{path}", body, every, method=method)
        return await asyncio.to_thread(_open, request)


def _open(request: urllib.request.Request) -> Answer:
    try:
        with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as response:
            return Answer(response.status, response.headers, response.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def token_of(settings: TokenSettings, *roles: str, subject: str = "alice", lifetime: str = "1h", **more: Any) -> str:
    """A token that `distributor token` prints with these settings."""
    return token_for(settings, TokenRequest(subject, lifetime, roles=roles, **more))


def bridge_settings(server: RunningServer, /, **changes: Any) -> BridgeSettings:
    """Settings of a bridge of that server, on any port."""
    usual: dict[str, Any] = {
        "listen": "127.0.0.1:0",
        "server": server.address,
        "valkey_url": server.process.valkey_url,
        "token_key": TOKEN_KEY,
    }
    return BridgeSettings(**usual | changes)


@asynccontextmanager
async def running_bridge(
    server: RunningServer, /, *, dev: bool = False, **changes: Any
) -> AsyncIterator[RunningBridge]:
    """A bridge; stopped at the end."""
    settings = bridge_settings(server, **changes)
    async with serving_dashboards(settings, dev=dev) as process:
        yield RunningBridge(process, settings)
