"""Tracks whether the server and Valkey are available and since when, for /readyz and dashboards."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

from distributor.client import CommandClient
from distributor.errors import DistributorError

INTERVAL_SECONDS: Final = 2.0


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
    """The backends of a bridge. Calls `on_change` when either becomes available or unavailable."""

    def __init__(self, on_change: Callable[[], None]) -> None:
        self.insecure: Sequence[str] = ()
        """What crosses a network in plain text, which the page warns of: `plain_page`, `plain_server`."""
        self.valkey = Backend(on_change)
        self.server = Backend(on_change, "not checked yet")


class ServerCheck:
    """Background loop that calls the server at a fixed interval and reports the outcome."""

    def __init__(self, client: CommandClient, server: Backend, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._client = client
        self._server = server
        self._interval_seconds = interval_seconds

    async def run(self) -> None:
        """Check until cancelled."""
        while True:
            await self.run_once()
            await asyncio.sleep(self._interval_seconds)

    async def run_once(self) -> None:
        """Check once."""
        try:
            await self._client.check()
        except DistributorError as error:
            self._server.failed(error.message)
        else:
            self._server.succeeded()


def _now_ms() -> int:
    return int(time.time() * 1000)
