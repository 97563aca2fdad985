"""One running server: everything that `distributor serve` puts together, started and stopped in the right order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self

from distributor.dispatch.agent_registry import AgentRegistry, Farewell
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.command_distributor import CommandDistributor
from distributor.dispatch.command_service import CommandService
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.deadlines import Deadlines
from distributor.dispatch.doorbell import Doorbell
from distributor.dispatch.event_relay import EventRelay
from distributor.dispatch.flight_audit import FlightAudit
from distributor.dispatch.gauges import Gauges
from distributor.dispatch.liveness import Liveness
from distributor.dispatch.retention import Retention
from distributor.dispatch.watches import Watches
from distributor.errors import Unavailable
from distributor.model.command import CommandLimits
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.http import HttpEndpoint, observability_app
from distributor.observability.logging import get_logger
from distributor.observability.loop_lag import LoopLag
from distributor.observability.metrics import Metrics
from distributor.rpc.agent_gateway import AgentGateway
from distributor.rpc.command_messages import CommandDefaults
from distributor.rpc.command_servicer import CommandServicer
from distributor.rpc.interceptors.admission import AdmissionInterceptor
from distributor.rpc.interceptors.errors import ErrorInterceptor
from distributor.rpc.interceptors.metrics import MetricsInterceptor
from distributor.rpc.server import GrpcServer
from distributor.settings import ServerSettings
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.command_store import ValkeyCommandStore
from distributor.store.connection import Connection, check_server
from distributor.store.embedded import EmbeddedValkey
from distributor.store.event_log import ValkeyEventLog
from distributor.store.functions import Functions
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.store.session_store import ValkeySessionStore

logger = get_logger()

STOPPING_GRACE_SECONDS = 0.5
CANCEL_AGAIN_SECONDS = 0.1
IDEMPOTENCY_MS = 86_400_000


class ServerProcess:
    """Gateway, distributor and command service over one Valkey. An async context manager: serving inside it.

    Started from the store upwards, stopped from the callers downwards: first health says no, then no agent is given
    anything more, then agents and watchers are asked to go elsewhere, and the store is let go last.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self._settings = settings
        self._replica = secrets.token_hex(6)
        self._cleanup = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []
        self._draining = False
        self.metrics = Metrics()
        self.port = 0
        self.http_port = 0
        self.valkey_url = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._cleanup.aclose()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def run(self) -> None:
        """Return only by raising what a background loop failed with: each of them is meant to run for ever."""
        done, _ = await asyncio.wait(self._loops, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()

    async def stop(self) -> None:
        """Drain and stop. Bounded by `drain_timeout`."""
        self._draining = True
        await self._grpc.set_serving(False)
        self._gateway.drain()
        self._watches.fail(Unavailable("this server is stopping", reason="DRAINING", retry_after_seconds=0.5))
        try:
            async with asyncio.timeout(self._settings.drain_timeout):
                while len(self._registry):
                    await self._registry.changed()
        except TimeoutError:
            logger.warning("agents did not leave in time; what they run goes on", agents=len(self._registry))
            for agent in self._registry:
                agent.end(Farewell.DRAINING)
        await self._grpc.stop(STOPPING_GRACE_SECONDS)
        await self._gateway.idle()
        await self._cleanup.aclose()

    # Putting together

    async def _start(self) -> None:
        settings = self._settings
        connection = await self._open_valkey()
        functions = Functions(connection, self.metrics.valkey_round_trip, self.metrics.valkey_failed)
        await functions.load()
        self._compose(connection, functions)
        await self._relay.catch_up()
        await self._gauges.run_once()
        self._gauges.changed.clear()
        http = HttpEndpoint(settings.http_listen, observability_app(self.metrics.registry, self._checks()))
        await http.start()
        self._cleanup.push_async_callback(http.stop)
        self.http_port = http.port
        self.port = await self._grpc.start(settings.listen)
        self._cleanup.push_async_callback(self._stop_loops)
        for name, loop in self._background().items():
            self._loops.append(asyncio.create_task(loop, name=name))
        await self._grpc.set_serving(True)

    async def _open_valkey(self) -> Connection:
        self.valkey_url = self._settings.valkey_url
        if not self.valkey_url:
            embedded = EmbeddedValkey(self._settings.data_dir)
            await embedded.start()
            self._cleanup.push_async_callback(embedded.stop)
            self.valkey_url = embedded.url
        connection = self._connection()
        await check_server(connection)
        return connection

    def _connection(self, **options: Any) -> Connection:
        connection = Connection(self.valkey_url, **options)
        self._cleanup.push_async_callback(connection.close)
        return connection

    def _compose(self, connection: Connection, functions: Functions) -> None:
        settings = self._settings
        policy = store_policy(settings)
        retry = RetryPolicy(
            settings.delivery_attempts, round(settings.retry_first * 1000), round(settings.retry_most * 1000)
        )
        store = ValkeyCommandStore(functions, self._replica, policy)
        sessions = ValkeySessionStore(functions, self._replica, policy)
        output_log = ValkeyOutputLog(connection, functions, self._replica, policy)
        for idle in (store.idle, sessions.idle, output_log.idle):
            self._cleanup.push_async_callback(idle)
        reader = ValkeyCommandReader(connection, functions, policy.offline_after_ms)
        doorbell = Doorbell()
        self._registry = AgentRegistry(self.metrics)
        self._watches = Watches(self.metrics, settings.max_watchers)
        self._gauges = Gauges(reader, self.metrics)
        self._relay = EventRelay(
            ValkeyEventLog(self._connection(reply_timeout_seconds=None)),
            self._replica,
            self._registry,
            doorbell,
            self._watches,
            self.metrics,
        )
        self._flight_audit = FlightAudit(reader, self._registry, doorbell, self._relay.missed)
        self._distributor = CommandDistributor(
            store,
            self._registry,
            doorbell,
            self.metrics,
            polling_interval=settings.polling_interval,
            batch_size=settings.batch_size,
        )
        self._deadlines = Deadlines(store, doorbell, retry)
        self._retention = Retention(store, settings.cleanup_interval)
        self._liveness = Liveness(self._registry, settings.offline_after)
        reports = AgentReports(store, output_log, doorbell, retry, settings.max_result_bytes)
        self._gateway = AgentGateway(store, sessions, reports, self._registry, doorbell, settings)
        service = CommandService(store, reader, doorbell, CommandLimits(settings.max_params_bytes))
        watcher = CommandWatcher(reader, output_log, self._watches)
        self._grpc = GrpcServer(
            [MetricsInterceptor(self.metrics), ErrorInterceptor(), AdmissionInterceptor(settings.max_calls)],
            settings.reflection,
        )
        self._grpc.serve(self._gateway, CommandServicer(service, watcher, CommandDefaults(settings)))

    def _background(self) -> dict[str, Coroutine[Any, Any, None]]:
        return {
            "event relay": self._relay.run(),
            "command distributor": self._distributor.run(),
            "deadlines": self._deadlines.run(),
            "retention": self._retention.run(),
            "liveness": self._liveness.run(),
            "flight audit": self._flight_audit.run(),
            "gauges": self._gauges.run(),
            "loop lag": LoopLag(self.metrics).run(),
            "health": self._report_health(),
        }

    async def _report_health(self) -> None:
        while True:
            await self._gauges.changed.wait()
            self._gauges.changed.clear()
            fault = self._gauges.fault
            if fault is None:
                logger.info("Valkey answers again")
            else:
                logger.error("not serving", fault=fault)
            await self._grpc.set_serving(fault is None and not self._draining)

    async def _stop_loops(self) -> None:
        # Asked again until they end: a cancel that meets a reply of Valkey at the same moment can get lost (seen).
        while running := [task for task in self._loops if not task.done()]:
            for task in running:
                task.cancel()
            await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
        await asyncio.gather(*self._loops, return_exceptions=True)

    def _checks(self) -> dict[str, Callable[[], str | None]]:
        return {
            "valkey": lambda: self._gauges.fault,
            "draining": lambda: "the server is stopping" if self._draining else None,
        }


def store_policy(settings: ServerSettings) -> StorePolicy:
    """What the store's functions are told, from the settings."""

    def ms(seconds: float) -> int:
        return round(seconds * 1000)

    return StorePolicy(
        queue_limit=settings.queue_limit,
        # A key that is remembered longer than its command would lead to nothing.
        idempotency_ms=min(IDEMPOTENCY_MS, ms(settings.result_retention)),
        queue_full=settings.queue_full,
        ageing_ms_per_priority=ms(settings.priority_ageing),
        offline_after_ms=ms(settings.offline_after),
        session_ttl_ms=ms(settings.result_retention),
        retention_ms=ms(settings.result_retention),
        ack_deadline_ms=ms(settings.ack_deadline),
        # The agent stops a command itself; we add the time that takes, and the time to hear of it.
        run_limit_slack_ms=ms(settings.stop_grace + settings.heartbeat_interval),
        delivery_attempts=settings.delivery_attempts,
        output_kept_bytes=settings.output_kept_bytes,
    )
