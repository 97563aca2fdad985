"""Tracks whether the server and Valkey are available, and what is insecure, for /readyz and dashboards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection, Sequence
from typing import Final, NamedTuple

from distributor.client import CommandClient
from distributor.errors import DistributorError

INTERVAL_SECONDS: Final = 2.0

_SERVER_INSECURITIES: Final = {
    "unauthenticated": "server_unauthenticated",
    "plain_text": "server_plain_text",
    "plain_http": "server_plain_http",
}
"""What a server says is unsafe about itself, and its name in `bridge:status`."""


class Availability(NamedTuple):
    """Availability of a backend. `fault` is the reason, None if available; `since_ms` is by the bridge's clock."""

    fault: str | None
    since_ms: int


class Backend:
    """A service the bridge depends on. Callers report the outcome of their calls."""

    def __init__(self, on_change: Callable[[], None], fault: str | None = None) -> None:
        self._on_change = on_change
        self.availability = Availability(fault, _now_ms())

    @property
    def fault(self) -> str | None:
        """Why it is unavailable, in one sentence; None while available."""
        return self.availability.fault

    def succeeded(self) -> None:
        """Report a successful call."""
        if self.fault is not None:
            self._change(None)

    def failed(self, fault: str) -> None:
        """Report a failed call. A later fault replaces the reason but keeps the time."""
        if self.fault is None:
            self._change(fault)
        elif self.fault != fault:
            self.availability = self.availability._replace(fault=fault)

    def _change(self, fault: str | None) -> None:
        self.availability = Availability(fault, _now_ms())
        self._on_change()


class BackendStatus:
    """The backends of a bridge, and what is insecure. Calls `on_change` when any of that changes."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self._on_change = on_change
        self._server_insecure: list[str] = []
        self.own_insecure: Sequence[str] = ()
        """What is insecure by the settings of the bridge: `plain_page`, `plain_server`. Set before it serves."""
        self.valkey = Backend(on_change)
        self.server = Backend(on_change, "not checked yet")

    @property
    def insecure(self) -> list[str]:
        """What the page warns of, as `bridge:status` names it; of the server, what it last said."""
        return [*self.own_insecure, *self._server_insecure]

    def server_answered(self, insecure: Collection[str]) -> None:
        """Note that the server is available, and what it says is unsafe about itself. Ignores unknown names."""
        found = [name for said, name in _SERVER_INSECURITIES.items() if said in insecure]
        changed, self._server_insecure = found != self._server_insecure, found
        if self.server.fault is not None:
            self.server.succeeded()
        elif changed:
            self._on_change()


class ServerCheck:
    """Background loop that calls the server at a fixed interval and reports the outcome."""

    def __init__(
        self, client: CommandClient, backends: BackendStatus, interval_seconds: float = INTERVAL_SECONDS
    ) -> None:
        self._client = client
        self._backends = backends
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._interval_seconds)

    async def run_once(self) -> None:
        """Check once."""
        try:
            insecure = await self._client.check()
        except DistributorError as error:
            self._backends.server.failed(error.message)
        else:
            self._backends.server_answered(insecure)


def _now_ms() -> int:
    return int(time.time() * 1000)
