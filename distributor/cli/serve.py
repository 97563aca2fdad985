"""`distributor serve`: one server, until it is told to stop."""

from __future__ import annotations

import gc

from distributor.cli.server_process import ServerProcess
from distributor.cli.signals import StopSignals
from distributor.observability.logging import get_logger
from distributor.settings import ServerSettings, is_loopback, split_address
from distributor.tasks import first_of

logger = get_logger()


async def serve_until_stopped(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises what a background loop failed with."""
    with StopSignals() as signals:
        async with ServerProcess(settings) as server:
            spare_the_garbage_collector()
            announce(server, settings)
            await first_of(signals.wait(), server.run())


def spare_the_garbage_collector() -> None:
    """Leave out what lives as long as the process, and look less often: collecting took a seventh of our CPU.

    What a server makes and drops under load is freed by reference counts; cycles are few.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def announce(server: ServerProcess, settings: ServerSettings) -> None:
    """Say where the server is, and who can reach it."""
    host, _ = split_address(settings.listen)
    logger.info(
        "serving",
        grpc=f"{host}:{server.port}",
        http=f"{split_address(settings.http_listen)[0]}:{server.http_port}",
        valkey="at valkey_url" if settings.valkey_url else f"embedded, in {settings.data_dir}",
    )
    for name, address in (("listen", settings.listen), ("http_listen", settings.http_listen)):
        if not is_loopback(split_address(address)[0]):
            logger.warning("open to whoever reaches it: callers are not asked who they are", **{name: address})
