"""Starts and stops the parts of a bridge in order, for `distributor bridge`."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from distributor.app.bridge_parts import BridgeParts, bridge_parts
from distributor.app.bridge_tls import check_page_exposure
from distributor.app.lifespan import Lifespan
from distributor.app.signals import StopSignals
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.server import SHUTDOWN_SECONDS
from distributor.observability.logging import get_logger
from distributor.processes.open_files import open_files_limit
from distributor.settings import BridgeSettings, split_address
from distributor.store.valkey_check import check_server
from distributor.tasks import first_of

logger = get_logger()


@dataclass(frozen=True, slots=True)
class BridgeProcess:
    """A running bridge. Created by `serving_dashboards`."""

    parts: BridgeParts
    metrics: BridgeMetrics
    lifespan: Lifespan
    host: str
    tls: bool

    @property
    def port(self) -> int:
        """The port in use, also if the settings say 0."""
        return self.parts.endpoint.port

    @property
    def url(self) -> str:
        """The URL of the page."""
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}/"

    async def run(self) -> None:
        """Wait until a background loop fails, and raise its error."""
        await self.lifespan.run()


@asynccontextmanager
async def serving_dashboards(settings: BridgeSettings, *, dev: bool = False) -> AsyncIterator[BridgeProcess]:
    """Run a bridge inside the context. For `dev`, see `bridge_parts`.

    On exit, disconnects dashboards first and closes the store last. Raises ConfigurationError.
    """
    check_page_exposure(settings)
    metrics = BridgeMetrics()
    parts = bridge_parts(settings, metrics, dev=dev)
    async with Lifespan() as lifespan:
        await _start(parts, lifespan)
        yield BridgeProcess(parts, metrics, lifespan, split_address(settings.listen)[0], settings.tls_cert is not None)


async def _start(parts: BridgeParts, lifespan: Lifespan) -> None:
    lifespan.on_stop("connection", parts.connections.close)
    await check_server(parts.connections.reads)
    await lifespan.enter("client", parts.client)
    lifespan.on_stop("audit notes", parts.notes.close)
    await parts.keys.start()
    await parts.revocations.load()
    await parts.hub.catch_up()
    lifespan.start_loops(parts.loops)
    lifespan.on_stop("output pumps", parts.pumps.stop)
    await parts.endpoint.start()
    lifespan.on_stop("dashboards", parts.endpoint.stop, SHUTDOWN_SECONDS)


async def bridge_until_stopped(settings: BridgeSettings) -> None:
    """Serve dashboards until SIGTERM or SIGINT. Raises the error of a background loop."""
    with StopSignals() as signals:
        async with serving_dashboards(settings) as bridge:
            logger.info("serving dashboards", url=bridge.url, server=settings.server, open_files=open_files_limit())
            await first_of(signals.wait(), bridge.run())
