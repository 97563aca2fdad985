"""One running bridge: everything that `distributor bridge` needs, started and stopped in the right order."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.server import SHUTDOWN_SECONDS
from distributor.cli.bridge_parts import bridge_parts
from distributor.cli.stages import Stages
from distributor.settings import BridgeSettings, split_address
from distributor.store.connection import check_server


class BridgeProcess:
    """Dashboards over the Valkey of a server. An async context manager: serving inside it.

    Stopped from the dashboards downwards: they are sent away first, and the store is let go last.
    """

    def __init__(self, settings: BridgeSettings, *, dev: bool = False) -> None:
        """Put it together, starting nothing. Raises ConfigurationError, and means `dev`, as `bridge_parts` does."""
        self._settings = settings
        self._stages = Stages()
        self.metrics = BridgeMetrics()
        self.parts = bridge_parts(settings, self.metrics, dev=dev)

    @property
    def port(self) -> int:
        """Where it listens, once started; tells what became of port 0."""
        return self.parts.endpoint.port

    @property
    def url(self) -> str:
        """Where the page is."""
        host, _ = split_address(self._settings.listen)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    async def __aenter__(self) -> Self:
        await self._stages.begin(self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stages.stop()

    async def run(self) -> None:
        """Return only by raising what a background loop failed with: each of them is meant to run for ever."""
        await self._stages.run()

    async def _start(self) -> None:
        stages, parts = self._stages, self.parts
        stages.at_stop("connection", parts.connection.close)
        await check_server(parts.connection)
        await stages.enter("client", parts.client)
        stages.at_stop("connection for events", parts.event_connection.close)
        await parts.hub.catch_up()
        stages.start_loops(parts.loops)
        stages.at_stop("output pumps", parts.pumps.stop)
        await parts.endpoint.start()
        stages.at_stop("dashboards", parts.endpoint.stop, SHUTDOWN_SECONDS)
