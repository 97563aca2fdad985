"""One running bridge: everything that `distributor bridge` needs, started and stopped in the right order."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from distributor.app.bridge_parts import bridge_parts
from distributor.app.lifespan import Lifespan
from distributor.app.signals import StopSignals
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.server import SHUTDOWN_SECONDS
from distributor.observability.logging import get_logger
from distributor.settings import BridgeSettings, is_loopback, split_address
from distributor.store.valkey_check import check_server
from distributor.tasks import first_of

logger = get_logger()


class BridgeProcess:
    """Dashboards over the Valkey of a server. An async context manager: serving inside it.

    Stopped from the dashboards downwards: they are sent away first, and the store is let go last.
    """

    def __init__(self, settings: BridgeSettings, *, dev: bool = False) -> None:
        """Put it together, starting nothing. Raises ConfigurationError, and means `dev`, as `bridge_parts` does."""
        self._settings = settings
        self._lifespan = Lifespan()
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
        await self._lifespan.begin(self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifespan.stop()

    async def run(self) -> None:
        """Return only by raising what a background loop failed with: each of them is meant to run for ever."""
        await self._lifespan.run()

    async def _start(self) -> None:
        lifespan, parts = self._lifespan, self.parts
        lifespan.at_stop("connection", parts.connection.close)
        await check_server(parts.connection)
        await lifespan.enter("client", parts.client)
        lifespan.at_stop("connection for events", parts.event_connection.close)
        await parts.hub.catch_up()
        lifespan.start_loops(parts.loops)
        lifespan.at_stop("output pumps", parts.pumps.stop)
        await parts.endpoint.start()
        lifespan.at_stop("dashboards", parts.endpoint.stop, SHUTDOWN_SECONDS)


async def bridge_until_stopped(settings: BridgeSettings) -> None:
    """Serve dashboards until SIGTERM or SIGINT. Raises what a background loop failed with."""
    with StopSignals() as signals:
        async with BridgeProcess(settings) as bridge:
            logger.info("serving dashboards", url=bridge.url, server=settings.server)
            if not is_loopback(split_address(settings.listen)[0]):
                logger.warning("open to the network without TLS: put a proxy in front", listen=settings.listen)
            await first_of(signals.wait(), bridge.run())
