"""`distributor bridge`: one bridge, put together, until it is told to stop."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Final, Self

from distributor.bridge.agent_watch import AgentWatch
from distributor.bridge.app import Admission, MintedToken, bridge_app
from distributor.bridge.bridge_metrics import BridgeMetrics
from distributor.bridge.command_calls import CommandCalls
from distributor.bridge.dashboard_session import Patience, SessionServices
from distributor.bridge.event_hub import EventHub
from distributor.bridge.output_pump import OutputPumps
from distributor.bridge.server import bridge_endpoint
from distributor.bridge.server_check import ServerCheck
from distributor.bridge.store_view import StoreView
from distributor.bridge.subscriptions import Subscriptions
from distributor.bridge.telling import Telling
from distributor.bridge.tokens import Scope, TokenVerifier, mint
from distributor.cli.serving import is_loopback
from distributor.cli.signals import StopSignals
from distributor.client import ClientOptions, CommandClient
from distributor.errors import ConfigurationError
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.logging import get_logger
from distributor.settings import BridgeSettings, split_address
from distributor.store import event_log
from distributor.store.command_reader import ValkeyCommandReader
from distributor.store.connection import REPLY_TIMEOUT_SECONDS, Connection, check_server
from distributor.store.event_history import ValkeyEventHistory
from distributor.store.event_log import ValkeyEventLog
from distributor.store.functions import Functions
from distributor.store.output_log import ValkeyOutputLog
from distributor.store.policy import StorePolicy
from distributor.tasks import first_of, first_to_end, stop_tasks

logger = get_logger()

CALLS: Final = ClientOptions(call_timeout_seconds=5.0, calls=RetryPolicy(attempts=2, first_ms=100, most_ms=500))
DEV_SUBJECT: Final = "developer"
DEV_TOKEN_SECONDS: Final = 12 * 3_600


async def bridge_until_stopped(settings: BridgeSettings) -> None:
    """Serve dashboards until SIGTERM or SIGINT. Raises what a background loop failed with."""
    with StopSignals() as signals:
        async with BridgeProcess(settings) as bridge:
            logger.info("serving dashboards", url=bridge.url, server=settings.server)
            if not is_loopback(settings.listen):
                logger.warning("open to the network without TLS: put a proxy in front", listen=settings.listen)
            await first_of(signals.wait(), bridge.run())


class BridgeProcess:
    """Everything that `distributor bridge` puts together. An async context manager: serving inside it.

    With `dev`, the page of this machine gets a token without asking anybody.
    """

    def __init__(self, settings: BridgeSettings, *, dev: bool = False) -> None:
        self._settings = settings
        self._dev = dev
        self._cleanup = AsyncExitStack()
        self._loops: list[asyncio.Task[None]] = []
        self.metrics = BridgeMetrics()
        self.port = 0

    @property
    def url(self) -> str:
        """Where the page is."""
        host, _ = split_address(self._settings.listen)
        return f"http://{f'[{host}]' if ':' in host else host}:{self.port}/"

    @property
    def connections(self) -> int:
        """How many connections are open, of any kind."""
        return self._endpoint.connections

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
        await self._cleanup.aclose()

    async def run(self) -> None:
        """Return only by raising what a background loop failed with: each of them is meant to run for ever."""
        await first_to_end(self._loops)

    async def _start(self) -> None:
        settings = self._settings
        key = settings.signing_key()
        verifier = TokenVerifier(settings.token_audience, key, settings.public_pems())
        connection = await self._open_valkey()
        client = await self._cleanup.enter_async_context(CommandClient(settings.server, CALLS))
        self._compose(connection)
        await self.hub.catch_up()
        telling = Telling(self.hub, self._view, self._pumps, self._agents, self.metrics)
        patience = Patience(
            settings.connect_timeout, settings.slow_close, settings.queue_messages, settings.queue_bytes
        )
        services = SessionServices(
            self.hub, self._view, telling, CommandCalls(client), verifier, self.metrics, patience
        )
        check = ServerCheck(client)
        app = bridge_app(
            services,
            Admission(settings.allowed_origins, settings.max_connections),
            {"valkey": lambda: self.hub.fault, "server": lambda: check.fault},
            (lambda: _dev_token(key, settings.token_audience)) if self._dev else None,
        )
        self._cleanup.push_async_callback(self._stop_loops)
        self._cleanup.push_async_callback(self._pumps.stop)
        self._endpoint = bridge_endpoint(settings.listen, app, settings.ping_interval)
        await self._endpoint.start()
        self._cleanup.push_async_callback(self._endpoint.stop)
        self.port = self._endpoint.port
        for name, loop in (("event hub", self.hub), ("agent watch", self._agents), ("server check", check)):
            self._loops.append(asyncio.create_task(loop.run(), name=name))

    async def _open_valkey(self) -> Connection:
        if not self._settings.valkey_url:
            raise ConfigurationError(
                "a bridge reads from the Valkey of its server: set valkey_url in [bridge], or "
                "DISTRIBUTOR_BRIDGE_VALKEY_URL, or --valkey-url",
                field="valkey_url",
            )
        connection = self._connection()
        await check_server(connection)
        return connection

    def _connection(self, reply_timeout_seconds: float = REPLY_TIMEOUT_SECONDS) -> Connection:
        connection = Connection(self._settings.valkey_url, reply_timeout_seconds=reply_timeout_seconds)
        self._cleanup.push_async_callback(connection.close)
        return connection

    def _compose(self, connection: Connection) -> None:
        functions = Functions(connection)
        self._view = StoreView(ValkeyCommandReader(connection, functions, round(self._settings.offline_after * 1000)))
        self._pumps = OutputPumps(ValkeyOutputLog(connection, functions, "bridge", StorePolicy()))
        self._agents = AgentWatch(self._view, Subscriptions())
        self.hub = EventHub(
            ValkeyEventLog(self._connection(event_log.REPLY_SECONDS)),
            ValkeyEventHistory(connection),
            self._view,
            self._pumps,
            self._agents,
            self.metrics,
        )

    async def _stop_loops(self) -> None:
        await stop_tasks(self._loops)


def _dev_token(key: str, audience: str) -> MintedToken:
    now = int(time.time())
    expires = now + DEV_TOKEN_SECONDS
    return MintedToken(mint(key, DEV_SUBJECT, list(Scope), audience, now, expires), expires)
