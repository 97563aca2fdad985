"""`distributor bridge`: one bridge, until it is told to stop."""

from __future__ import annotations

from distributor.cli.bridge_process import BridgeProcess
from distributor.cli.signals import StopSignals
from distributor.observability.logging import get_logger
from distributor.settings import BridgeSettings, is_loopback, split_address
from distributor.tasks import first_of

logger = get_logger()


async def bridge_until_stopped(settings: BridgeSettings) -> None:
    """Serve dashboards until SIGTERM or SIGINT. Raises what a background loop failed with."""
    with StopSignals() as signals:
        async with BridgeProcess(settings) as bridge:
            logger.info("serving dashboards", url=bridge.url, server=settings.server)
            if not is_loopback(split_address(settings.listen)[0]):
                logger.warning("open to the network without TLS: put a proxy in front", listen=settings.listen)
            await first_of(signals.wait(), bridge.run())
