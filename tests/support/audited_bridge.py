"""A bridge of a server that knows its callers and keeps an audit trail, and dashboards at an address of their own."""

from __future__ import annotations

import asyncio
import http.client
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from distributor.identity.caller import CallerKind
from distributor.model.audit_entry import AuditActor
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import TOKEN_KEY, RunningBridge, running_bridge, token_of
from tests.support.running_server import RunningServer
from tests.support.wire_agent import WireAgent

AT: Final = "127.0.0.2"
"""Where dashboards are. The bridge itself calls from 127.0.0.1."""
ALICE: Final = AuditActor("service", "bridge", "alice", AT)
STRANGER: Final = AuditActor("service", "bridge", "", AT)


@dataclass
class AuditedBridge:
    """A bridge and the trail of its server."""

    server: RunningServer
    bridge: RunningBridge
    trail: StoredTrail

    @asynccontextmanager
    async def dashboard(self, *roles: str, **fields: Any) -> AsyncIterator[DashboardClient]:
        """A connected dashboard of alice; `fields` go into its dashboard:connect."""
        async with self.bridge.stranger(local_addr=(AT, 0)) as client:
            await client.connect(self.bridge.token(*roles), **fields)
            yield client

    @asynccontextmanager
    async def agent(self) -> AsyncIterator[WireAgent]:
        """The attached agent123."""
        token = token_of(self.bridge.settings, subject="agent123", kind=CallerKind.AGENT)
        async with self.server.agent("agent123", credentials=[("authorization", f"Bearer {token}")]) as agent:
            yield agent

    async def get(self, path: str, token: str | None = None) -> int:
        """The status of a GET from where dashboards are; without a token unless one is given."""
        return await asyncio.to_thread(self._get, path, {"Authorization": f"Bearer {token}"} if token else {})

    def _get(self, path: str, headers: dict[str, str]) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.bridge.process.port, source_address=(AT, 0))
        try:
            connection.request("GET", path, headers=headers)
            response = connection.getresponse()
            response.read()
            return response.status
        finally:
            connection.close()


@asynccontextmanager
async def audited_bridge(valkey_url: str, folder: Path, **changes: Any) -> AsyncIterator[AuditedBridge]:
    """A bridge of a server with authentication and a trail; `changes` are settings of the bridge."""
    key_file = folder / "audit.key"
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            audited_server(valkey_url, key_file, authenticator=None, token_key=TOKEN_KEY)
        )
        own = token_of(server.settings, "delegate", subject="bridge", kind=CallerKind.SERVICE)
        bridge = await stack.enter_async_context(running_bridge(server, server_token=own, **changes))
        trail = await stack.enter_async_context(stored_trail(valkey_url, key_file))
        yield AuditedBridge(server, bridge, trail)
