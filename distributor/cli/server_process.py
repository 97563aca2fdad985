"""One running server: everything that `distributor serve` needs, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from distributor.cli.server_parts import ServerParts, server_parts, stores_on
from distributor.cli.stages import Loop, Stages
from distributor.dispatch.agent_registry import AgentRegistry, Farewell
from distributor.dispatch.refusals import draining
from distributor.observability.http import HttpEndpoint, observability_app
from distributor.observability.logging import get_logger
from distributor.observability.metrics import Metrics
from distributor.settings import ServerSettings
from distributor.store import event_log
from distributor.store.connection import Connection, check_server
from distributor.store.embedded import STOP_TIMEOUT_SECONDS, EmbeddedValkey

logger = get_logger()

STOPPING_GRACE_SECONDS: Final = 0.5


class ServerProcess:
    """Gateway, distributor and command service over one Valkey. An async context manager: serving inside it.

    Started from the store upwards, stopped from the callers downwards: first health says no, then no agent is given
    anything more, then agents and watchers are asked to go elsewhere, and the store is let go last.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._replica = secrets.token_hex(6)
        self._stages = Stages()
        self._registry: AgentRegistry | None = None
        self._draining = False
        self.metrics = Metrics()
        self.port = 0
        self.http_port = 0
        self.valkey_url = ""

    async def __aenter__(self) -> Self:
        await self._stages.begin(self._start())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self) -> None:
        """Return only by raising what a background loop failed with: each of them is meant to run for ever."""
        await self._stages.run()

    def has_agent(self, agent_id: str) -> bool:
        """Whether this agent is attached to this very server now."""
        return self._registry is not None and self._registry.get(agent_id) is not None

    async def stop(self) -> None:
        """Drain and stop. Bounded by `drain_timeout`, some seconds more for each part, and a Valkey of our own."""
        self._draining = True
        await self._stages.stop()

    # Starting

    async def _start(self) -> None:
        settings = self._settings
        keepers = await self._open_valkey()
        connection = self._connection()
        await check_server(connection)
        events = self._connection(reply_timeout_seconds=event_log.REPLY_SECONDS)
        stores = stores_on(connection, events, settings, self._replica, self.metrics)
        self._stages.at_stop("calls to Valkey", stores.idle)
        await stores.functions.load()
        parts = server_parts(stores, settings, self.metrics)
        self._registry = parts.registry
        await parts.relay.catch_up()
        await parts.gauges.run_once()
        parts.gauges.changed.clear()
        http = HttpEndpoint(settings.http_listen, observability_app(self.metrics.registry, self._checks(parts)))
        await http.start()
        self._stages.at_stop("http", http.stop)
        self.http_port = http.port
        self._stages.start_loops({**keepers, **parts.loops, "health": lambda: self._report_health(parts)})
        await self._serve(parts)

    async def _open_valkey(self) -> dict[str, Loop]:
        """Find or start the Valkey; returns the loops that keep it."""
        self.valkey_url = self._settings.valkey_url
        if self.valkey_url:
            return {}
        embedded = EmbeddedValkey(self._settings.data_dir)
        await self._stages.enter("embedded Valkey", embedded, STOP_TIMEOUT_SECONDS)
        self.valkey_url = embedded.url
        return {"embedded Valkey": embedded.keeper().run}

    def _connection(self, **options: Any) -> Connection:
        connection = Connection(self.valkey_url, **options)
        self._stages.at_stop("connection", connection.close)
        return connection

    async def _serve(self, parts: ServerParts) -> None:
        self._stages.at_stop("streams", parts.gateway.idle)
        self.port = await parts.grpc.start(self._settings.listen)
        self._stages.at_stop("grpc", lambda: parts.grpc.stop(STOPPING_GRACE_SECONDS))
        self._stages.at_stop("draining", lambda: self._drain(parts), self._settings.drain_timeout)
        await self._tell_health(parts)

    # Serving

    async def _report_health(self, parts: ServerParts) -> None:
        while True:
            await parts.gauges.changed.wait()
            parts.gauges.changed.clear()
            if parts.gauges.fault is None:
                logger.info("Valkey answers again")
            await self._tell_health(parts)

    async def _tell_health(self, parts: ServerParts) -> None:
        fault = parts.gauges.fault
        if fault is not None:
            logger.error("not serving", fault=fault)
        await parts.grpc.set_serving(fault is None and not self._draining)

    def _checks(self, parts: ServerParts) -> dict[str, Callable[[], str | None]]:
        return {
            "valkey": lambda: parts.gauges.fault,
            "draining": lambda: "the server is stopping" if self._draining else None,
        }

    # Stopping

    async def _drain(self, parts: ServerParts) -> None:
        await parts.grpc.set_serving(False)
        parts.gateway.drain()
        parts.watches.fail(draining())
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                while len(parts.registry):
                    await parts.registry.changed()
        except TimeoutError:
            logger.warning("agents did not leave in time; what they run goes on", agents=len(parts.registry))
            for agent in parts.registry:
                agent.end(Farewell.DRAINING)
