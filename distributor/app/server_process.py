"""Starts and stops the parts of a server in order, for `distributor serve`."""

from __future__ import annotations

import asyncio
import gc
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final, NamedTuple

from distributor.app.authentication import Authentication
from distributor.app.certificate_watch import CertificateWatch
from distributor.app.lifespan import Lifespan, Loop
from distributor.app.preflight import check_server_addresses
from distributor.app.server_endpoints import check_exposure, grpc_listeners, server_certificates
from distributor.app.server_parts import DEFAULT_TIMING, ServerParts, server_parts
from distributor.app.server_stores import stores_on
from distributor.app.signals import StopSignals
from distributor.app.timing import ServerTiming
from distributor.app.valkey_address import valkey_address, valkey_certificates
from distributor.app.worker_place import WorkerPlace
from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.audited_callers import AuditedCallers
from distributor.dispatch.refusals import draining
from distributor.identity.tokens import Revoked
from distributor.observability.http import Admit, HttpEndpoint, everyone, observability_app
from distributor.observability.http_protocol import HttpLimits
from distributor.observability.logging import get_logger
from distributor.observability.metrics import Metrics
from distributor.processes.open_files import open_files_limit
from distributor.rpc.agent_gateway import AgentGateway
from distributor.rpc.interceptors.authentication import Authenticator
from distributor.rpc.interceptors.wrapping import Interceptor
from distributor.settings import ServerSettings, split_address
from distributor.store.connections import StoreConnections
from distributor.store.durability import Durability, SyncedByUs
from distributor.store.durability_check import WantedDurability, durability_of
from distributor.store.embedded import STOP_TIMEOUT_SECONDS, EmbeddedValkey
from distributor.store.valkey_check import check_server, load_functions
from distributor.tasks import first_of
from distributor.wire.certificate_files import CertificateFiles

logger = get_logger()

MOVES_PER_SECOND: Final = 500.0
"""Rate at which a draining server sends its agents to another."""
EMBEDDED_DRAIN_SECONDS: Final = 1.0
"""Limit of the drain with an embedded Valkey: time for reports under way. Agents keep their commands running."""


Sync = Callable[[], Awaitable[None]]


class Worker(NamedTuple):
    """The worker that a server runs as: its place, and how its supervisor fsyncs the embedded Valkey.

    `sync` returns once all that Valkey wrote before the call is on disk, or raises OSError.
    """

    place: WorkerPlace
    sync: Sync


class ServerProcess:
    """A running gateway, distributor and command service over one Valkey. Created by `serving`.

    Starts from the store up and stops from the callers down: health checks fail first and the addresses are free for
    another server. Calls, watches and agents are served until the agents have moved to another server. The store closes
    last.

    As a worker, it leaves checking addresses, HTTP and the embedded Valkey to its supervisor.
    """

    def __init__(
        self, settings: ServerSettings, lifespan: Lifespan, timing: ServerTiming, worker: Worker | None = None
    ) -> None:
        self._timing = timing
        self._worker = worker
        # Nobody but a worker shares ports.
        self._settings = settings if worker is not None else settings.model_copy(update={"workers": 1})
        self._lifespan = lifespan
        self._replica = secrets.token_hex(6)
        self._registry: AgentRegistry | None = None
        self._gateway: AgentGateway | None = None
        self._embedded: EmbeddedValkey | None = None
        self._http: HttpEndpoint | None = None
        self._draining = False
        self.methods: frozenset[str] = frozenset()
        """Full names of the RPCs that it answers."""
        self.metrics = Metrics()
        self._certificates: CertificateFiles | None = None
        self._checks: Mapping[str, Callable[[], str | None]] = {}
        self.admit: Admit = everyone
        """Raises an error unless the credentials of an HTTP request permit reading the metrics."""
        self.port = 0
        self.mtls_port = 0
        """The port of `mtls_listen`; 0 without one."""
        self.http_port = 0
        self.valkey_url = ""

    async def run(self) -> None:
        """Wait until a background loop fails, and raise its error."""
        await self._lifespan.run()

    def has_agent(self, agent_id: str) -> bool:
        """Return whether this agent is attached to this server."""
        return self._registry is not None and self._registry.get(agent_id) is not None

    def faults(self) -> dict[str, str | None]:
        """What keeps it from serving, by check; None for a check that finds nothing."""
        return {name: check() for name, check in self._checks.items()}

    @property
    def http_connections(self) -> int:
        """Number of open connections to `/metrics`, `/healthz` and `/readyz`."""
        return self._http.connections if self._http is not None else 0

    @property
    def http_limits(self) -> HttpLimits | None:
        """What `/metrics`, `/healthz` and `/readyz` accept; None before they are served."""
        return self._http.limits if self._http is not None else None

    @property
    def streams(self) -> int:
        """Number of agents' streams that are open, or that the store does not know to have ended."""
        return self._gateway.streams if self._gateway is not None else 0

    async def stop(self) -> None:
        """Drain, then stop every part. Bounded by `drain_timeout` and the limit of each step."""
        await self._lifespan.stop()

    # Starting

    async def start(self, interceptors: Sequence[Interceptor], authenticator: Authenticator | None = None) -> None:
        """Start serving. Call once. On an error, such as ConfigurationError, the lifespan stops what has started."""
        settings, lifespan = self._settings, self._lifespan
        if self._worker is None:
            check_exposure(settings)
        self._certificates = server_certificates(settings)
        if self._worker is None:
            check_server_addresses(settings)
        supervisors = await self._open_valkey()
        connections = StoreConnections.to(self.valkey_url)
        lifespan.on_stop("connections to Valkey", connections.close)
        await check_server(connections.reads)
        durability = await self._durability(connections)
        stores = stores_on(connections, settings, self._replica, self.metrics, durability)
        lifespan.on_stop("calls to Valkey", stores.exchanges.idle)
        await load_functions(connections.reads, stores.functions)
        authentication = Authentication(
            settings,
            Revoked(
                lambda token_id: parts.revocations.is_revoked(token_id),
                lambda agent_id, issued: parts.revocations.list.is_agent_token_revoked(agent_id, issued),
                lambda name, issued: parts.revocations.list.is_service_revoked(name, issued),
                lambda agent_id, generation: parts.revocations.list.is_certificate_revoked(agent_id, generation),
            ),
            lambda service: parts.policy.services.get(service),
        )
        parts = server_parts(
            stores, settings, self.metrics, interceptors, self._timing, authenticator or authentication.authenticator
        )
        parts.revocations.standing = authentication.standing
        if parts.audit is not None:
            await parts.audit.begin()
            lifespan.on_stop("audit trail", parts.audit.end)
        lifespan.on_stop("claims", parts.distributor.idle)
        self._registry, self._gateway, self.methods = parts.registry, parts.gateway, parts.grpc.methods
        await parts.revocations.load()
        await parts.relay.catch_up()
        await parts.gauges.run_once()
        parts.gauges.changed.clear()
        record = AuditedCallers(parts.audit.recorder) if parts.audit is not None else None
        door = authentication.metrics_door(record)
        self.admit = door.admit if door is not None else everyone
        self._checks = self._checks_of(parts)
        if self._worker is None:
            await self._serve_http()
        supervisors["certificate expiry"] = self._certificate_watch().run
        if authentication.keys is not None:
            await authentication.keys.start()
            supervisors["token keys"] = authentication.keys.run
        lifespan.start_loops({**supervisors, **parts.loops, "health": lambda: self._report_health(parts)})
        await self._serve(parts)

    async def _serve_http(self) -> None:
        settings = self._settings
        self._http = http = HttpEndpoint(
            settings.http_listen,
            observability_app(self.metrics.registry, self._checks, self.admit),
            tls=self._certificates if settings.http_tls else None,
            limits=HttpLimits(settings.http_request_timeout, settings.max_http_body_bytes),
        )
        await http.start()
        self._lifespan.on_stop("http", http.stop)
        self.http_port = http.port

    async def _durability(self, connections: StoreConnections) -> Durability:
        settings, worker = self._settings, self._worker
        if worker is not None and worker.place.embedded_url:
            return SyncedByUs(connections.functions, worker.sync) if settings.durability == "disk" else Durability()
        wanted = WantedDurability(settings.durability, settings.replicas_acked)
        return await durability_of(connections, wanted, self._embedded)

    def _certificate_watch(self) -> CertificateWatch:
        watched = {"valkey": valkey_certificates(self._settings)}
        if self._certificates is not None:
            watched["listen"] = self._certificates
        return CertificateWatch(watched, self.metrics.registry)

    async def _open_valkey(self) -> dict[str, Loop]:
        """Set `valkey_url`, starting an embedded Valkey if none is set; return the loops that supervise it."""
        self.valkey_url = valkey_address(self._settings)
        if self._worker is not None:
            self.valkey_url = self.valkey_url or self._worker.place.embedded_url
        if self.valkey_url:
            return {}
        observed = self.metrics.embedded_valkey
        self._embedded = embedded = EmbeddedValkey(
            self._settings.data_dir, started=observed.started, synced=observed.synced
        )
        await self._lifespan.enter("embedded Valkey", embedded, STOP_TIMEOUT_SECONDS)
        self.valkey_url = embedded.url
        return {"embedded Valkey": embedded.supervisor().run}

    async def _serve(self, parts: ServerParts) -> None:
        self._lifespan.on_stop("streams", parts.gateway.idle)
        self.port, *more = await parts.grpc.start(*grpc_listeners(self._listening, self._certificates))
        self.mtls_port = more[0] if more else 0
        parts.enrolment.servers = self._settings.agent_servers or (f":{self.mtls_port}" if more else "")
        self._lifespan.on_stop("grpc", lambda: parts.grpc.stop(self._timing.shutdown_grace))
        self._lifespan.on_stop("draining", lambda: self._drain(parts), self._settings.drain_timeout)
        await self._set_health(parts)

    @property
    def _listening(self) -> ServerSettings:
        """The settings, with the addresses that the supervisor holds."""
        if self._worker is None:
            return self._settings
        place = self._worker.place
        return self._settings.model_copy(update={"listen": place.listen, "mtls_listen": place.mtls_listen})

    # Serving

    async def _report_health(self, parts: ServerParts) -> None:
        while True:
            await parts.gauges.changed.wait()
            parts.gauges.changed.clear()
            if parts.gauges.fault is None:
                logger.info("Valkey answers again")
            await self._set_health(parts)

    async def _set_health(self, parts: ServerParts) -> None:
        fault = parts.gauges.fault
        if fault is not None:
            logger.error("not serving", fault=fault)
        await parts.grpc.set_serving(fault is None and not self._draining)

    def _checks_of(self, parts: ServerParts) -> dict[str, Callable[[], str | None]]:
        return {
            "valkey": lambda: parts.gauges.fault,
            "draining": lambda: "the server is stopping" if self._draining else None,
        }

    # Stopping

    async def _drain(self, parts: ServerParts) -> None:
        self._draining = True
        await parts.grpc.set_serving(False)
        await parts.grpc.stop_listening()
        if self._http is not None:
            self._http.stop_listening()
        parts.gateway.drain(min(len(parts.registry) / MOVES_PER_SECOND, self._settings.drain_timeout / 2))
        try:
            async with asyncio.timeout(self._drain_seconds):
                while len(parts.registry):
                    await parts.registry.changed()
        except TimeoutError:
            logger.warning("drain timed out; remaining agents continue their commands", agents=len(parts.registry))
            for agent in parts.registry:
                agent.end(CloseReason.DRAINING)
        # Only now: until then, watchers see what the agents report here.
        parts.watches.fail(draining())

    @property
    def _drain_seconds(self) -> float:
        """How long to wait for agents to move. No other server can use an embedded Valkey before this one has ended."""
        timeout = self._settings.drain_timeout
        return timeout if self._settings.valkey_url else min(timeout, EMBEDDED_DRAIN_SECONDS)


@asynccontextmanager
async def serving(
    settings: ServerSettings,
    interceptors: Sequence[Interceptor] = (),
    timing: ServerTiming = DEFAULT_TIMING,
    authenticator: Authenticator | None = None,
    worker: Worker | None = None,
) -> AsyncIterator[ServerProcess]:
    """Run a server inside the context; drain and stop it on exit. One process, unless it runs as a `worker`.

    `interceptors` run outside our own. `authenticator` replaces that of the settings. Raises ConfigurationError, or the
    error of a shutdown step.
    """
    async with Lifespan(timing.shutdown_step) as lifespan:
        server = ServerProcess(settings, lifespan, timing, worker)
        await server.start(interceptors, authenticator)
        yield server


async def serve_until_stopped(settings: ServerSettings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises the error of a background loop."""
    with StopSignals() as signals:
        async with serving(settings) as server:
            tune_garbage_collection()
            announce(server, settings)
            await first_of(signals.wait(), server.run())


def tune_garbage_collection() -> None:
    """Exempt long-lived objects from garbage collection and collect less often.

    Collection took a seventh of the CPU. Reference counting frees most objects made under load; few form cycles.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 10, 10)


def announce(server: ServerProcess, settings: ServerSettings) -> None:
    """Log the addresses."""
    host, _ = split_address(settings.listen)
    logger.info(
        "serving",
        grpc=f"{host}:{server.port}",
        mutual_tls=f"{split_address(settings.mtls_listen)[0]}:{server.mtls_port}" if settings.mtls_listen else "off",
        http=f"{split_address(settings.http_listen)[0]}:{server.http_port}",
        valkey="at valkey_url" if settings.valkey_url else f"embedded, in {settings.data_dir}",
        open_files=open_files_limit(),
    )
