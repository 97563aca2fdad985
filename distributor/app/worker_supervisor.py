"""Runs several workers as one server, for `distributor serve --workers`."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Final

from distributor.app.gathered_workers import GatheredWorkers
from distributor.app.lifespan import Lifespan, Loop
from distributor.app.preflight import check_server_addresses
from distributor.app.server_endpoints import check_exposure, server_certificates
from distributor.app.signals import StopSignals
from distributor.app.worker_place import WorkerPlace
from distributor.app.worker_process import WorkerProcess
from distributor.app.worker_restarts import WorkerRestarts
from distributor.observability.http import HttpEndpoint, app_of, everyone
from distributor.observability.http_protocol import HttpLimits
from distributor.observability.logging import get_logger
from distributor.observability.worker_metrics import WorkerMetrics
from distributor.processes.open_files import open_files_limit
from distributor.settings import ServerSettings, split_address
from distributor.store.embedded import STOP_TIMEOUT_SECONDS, EmbeddedValkey
from distributor.tasks import first_of
from distributor.wire.certificate_files import CertificateFiles
from distributor.wire.listening import held_port

logger = get_logger()

STOP_SECONDS: Final = 15.0
"""For a worker to end, beyond its drain, before it is killed."""


class WorkerSupervisor:
    """A running server of several workers. Created by `supervising`.

    It holds the ports, on which only the workers listen; owns the embedded Valkey; serves HTTP; and keeps the workers
    running. Serves no agents and no callers itself.
    """

    def __init__(self, settings: ServerSettings, lifespan: Lifespan) -> None:
        self._settings = settings
        self._lifespan = lifespan
        self._embedded: EmbeddedValkey | None = None
        self._held: dict[str, socket.socket] = {}
        self._workers: list[WorkerRestarts] = []
        self._metrics = WorkerMetrics()
        self._gathered = GatheredWorkers(self._workers, self._metrics)
        self._http: HttpEndpoint | None = None
        self.http_port = 0

    def port(self, setting: str) -> int:
        """The port of `listen` or `mtls_listen`, 0 without one."""
        return int(self._held[setting].getsockname()[1]) if setting in self._held else 0

    async def run(self) -> None:
        """Wait until a background loop fails, and raise its error."""
        await self._lifespan.run()

    async def start(self) -> None:
        """Start serving. Call once. Raises the ConfigurationError of this process, or of the first worker."""
        settings, lifespan = self._settings, self._lifespan
        check_exposure(settings)
        certificates = server_certificates(settings)
        check_server_addresses(settings)
        lifespan.on_stop("ports", self._free_ports)
        for setting in ("listen", "mtls_listen"):
            if address := getattr(settings, setting):
                self._held[setting] = held_port(address, setting)
        loops: dict[str, Loop] = {}
        if not settings.valkey_url:
            self._embedded = await self._open_embedded()
            loops["embedded Valkey"] = self._embedded.supervisor().run
        await self._serve_http(certificates)
        await self._start_workers()
        for slot in self._workers:
            loops[f"worker {slot.worker.number}"] = slot.run
        lifespan.start_loops(loops)
        lifespan.on_stop("draining", self._drain, settings.drain_timeout + STOP_SECONDS)

    async def _open_embedded(self) -> EmbeddedValkey:
        settings, observed = self._settings, self._metrics.embedded_valkey
        embedded = EmbeddedValkey(settings.data_dir, started=observed.started, synced=observed.synced)
        await self._lifespan.enter("embedded Valkey", embedded, STOP_TIMEOUT_SECONDS)
        return embedded

    async def _serve_http(self, certificates: CertificateFiles | None) -> None:
        settings = self._settings
        self._http = http = HttpEndpoint(
            settings.http_listen,
            app_of(self._gathered, self._gathered.admit if settings.authenticates else everyone),
            tls=certificates if settings.http_tls else None,
            limits=HttpLimits(settings.http_request_timeout, settings.max_http_body_bytes),
        )
        await http.start()
        self._lifespan.on_stop("http", http.stop)
        self.http_port = http.port

    async def _start_workers(self) -> None:
        """Start one worker, then the others: what is wrong is said once, and keys and functions are made by one."""
        for number in range(self._settings.workers):
            make = partial(WorkerProcess, self._settings, self._place(number), self._sync)
            self._workers.append(WorkerRestarts(make, self._metrics.restarted))
        self._lifespan.on_stop("workers", lambda: self._stop_workers(0.0))
        first, *others = self._workers
        await first.start()
        await asyncio.gather(*[slot.start() for slot in others])

    def _place(self, number: int) -> WorkerPlace:
        listening = {setting: self._address(setting) for setting in self._held}
        return WorkerPlace(number, **listening, embedded_url=self._embedded.url if self._embedded is not None else "")

    def _address(self, setting: str) -> str:
        host = getattr(self._settings, setting).rpartition(":")[0]
        return f"{host}:{self.port(setting)}"

    async def _sync(self) -> None:
        if self._embedded is None:
            raise RuntimeError("there is no embedded Valkey")
        await self._embedded.cadence.sync()

    # Stopping

    async def _drain(self) -> None:
        self._gathered.draining = True
        if self._http is not None:
            self._http.stop_listening()
        # Another server may have the addresses as soon as the workers stop listening.
        await self._free_ports()
        await self._stop_workers(self._settings.drain_timeout + STOP_SECONDS)

    async def _stop_workers(self, grace_seconds: float) -> None:
        await asyncio.gather(*[slot.stop(grace_seconds) for slot in self._workers])

    async def _free_ports(self) -> None:
        for holder in self._held.values():
            holder.close()


async def supervise_until_stopped(settings: ServerSettings) -> None:
    """Serve with several workers until SIGTERM or SIGINT, then drain. Raises the error that prevents it."""
    with StopSignals() as signals:
        async with supervising(settings) as supervisor:
            announce(supervisor, settings)
            await first_of(signals.wait(), supervisor.run())


@asynccontextmanager
async def supervising(settings: ServerSettings) -> AsyncIterator[WorkerSupervisor]:
    """Run the workers inside the context; drain and stop them on exit. Raises DistributorError."""
    async with Lifespan() as lifespan:
        supervisor = WorkerSupervisor(settings, lifespan)
        await supervisor.start()
        yield supervisor


def announce(supervisor: WorkerSupervisor, settings: ServerSettings) -> None:
    """Log the addresses."""
    mutual = supervisor.port("mtls_listen")
    logger.info(
        "serving",
        grpc=f"{split_address(settings.listen)[0]}:{supervisor.port('listen')}",
        mutual_tls=f"{split_address(settings.mtls_listen)[0]}:{mutual}" if mutual else "off",
        http=f"{split_address(settings.http_listen)[0]}:{supervisor.http_port}",
        valkey="at valkey_url" if settings.valkey_url else f"embedded, in {settings.data_dir}",
        workers=settings.workers,
        open_files=open_files_limit(),
    )
