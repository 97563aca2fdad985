"""The system under test: a Valkey and a server, plus the agents and bridges of a scenario."""

from __future__ import annotations

import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import grpc

from bench.agents import AgentsPlan
from bench.child import ROOT, STOP_TIMEOUT_SECONDS, Child
from distributor.app.lifespan import Lifespan
from distributor.identity.caller import CallerKind
from distributor.identity.roles import Role
from distributor.identity.token_keys import shared_key
from distributor.identity.tokens import NewToken, TokenRules, mint
from distributor.store import embedded
from distributor.store.embedded import EmbeddedValkey
from distributor.store.valkey_connection import ValkeyConnection
from distributor.wire.credentials import Metadata
from distributor.wire.transport import channel_options

TOKEN_SECONDS = 3_600
ATTACH_TIMEOUT_SECONDS = 300.0


@dataclass(frozen=True)
class ServerVariant:
    """Options for running the server differently from normal use."""

    profile_folder: Path | None = None
    without_uvloop: bool = False
    scenario: str = ""

    def named(self, scenario: str) -> ServerVariant:
        """Return the same variant for a scenario, which names its profile."""
        return replace(self, scenario=scenario)

    def arguments(self) -> tuple[str, ...]:
        """Return Python's arguments to run the server."""
        if self.profile_folder is None and not self.without_uvloop:
            return (str(ROOT / "cmd" / "distributor_server.py"),)
        profile = "" if self.profile_folder is None else str(self.profile_folder.absolute() / f"{self.scenario}.prof")
        return ("-m", "bench.server_variant", profile, "asyncio" if self.without_uvloop else "fastest")


class Bridge(NamedTuple):
    """A running bridge and a token for it."""

    pid: int
    address: str
    token: str


class Cluster:
    """A Valkey (append-only file, fsync every second) and a server with default settings, on loopback.

    They run inside this async context manager, with all data in `folder`.
    """

    def __init__(self, folder: Path, variant: ServerVariant) -> None:
        self._folder = folder
        self._variant = variant
        self._lifespan = Lifespan()
        self._valkey = EmbeddedValkey(folder)
        self.valkey_url = self._valkey.url
        self.valkey = ValkeyConnection(self.valkey_url)
        self._server = Child(
            "server",
            folder,
            *variant.arguments(),
            *("serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"),
            environment={"DISTRIBUTOR_VALKEY_URL": self._valkey.url},
        )
        self.address = ""
        self.http_address = ""

    async def __aenter__(self) -> Self:
        try:
            await self._start()
        except BaseException:
            await self._lifespan.stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._lifespan.stop()

    async def _start(self) -> None:
        await self._lifespan.enter("Valkey", self._valkey, embedded.STOP_TIMEOUT_SECONDS)
        self._lifespan.on_stop("connection", self.valkey.close)
        await self._lifespan.enter("server", self._server, STOP_TIMEOUT_SECONDS)
        serving = json.loads(await self._server.log_line('"event": "serving"'))
        self.address, self.http_address = serving["grpc"], serving["http"]

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the server, Valkey and the load."""
        assert self._valkey.pid is not None
        return {"server": self._server.pid, "valkey": self._valkey.pid, "load": os.getpid()}

    def child(self, name: str, *arguments: str) -> Child:
        """Return a process for a scenario, not yet started."""
        return Child(name, self._folder, *arguments)

    @asynccontextmanager
    async def agents(self, prefix: str, count: int, capacity: int) -> AsyncIterator[Child]:
        """Run a process with `count` agents, attached inside the context and named `<prefix>-<n>`."""
        plan = AgentsPlan(self.address, prefix, count, capacity)
        async with self.child(prefix, "-m", "bench.agents", plan.dump()) as process:
            await process.line(ATTACH_TIMEOUT_SECONDS)
            yield process

    @asynccontextmanager
    async def bridge(self) -> AsyncIterator[Bridge]:
        """Run a bridge inside the context, with default settings but for limits of one user."""
        key, now = secrets.token_hex(), int(time.time())
        process = Child(
            "bridge",
            self._folder,
            str(ROOT / "cmd" / "websocket_bridge.py"),
            *("--listen", "127.0.0.1:0", "--server", self.address, "--log-format", "json"),
            environment={
                "DISTRIBUTOR_BRIDGE_VALKEY_URL": self._valkey.url,
                "DISTRIBUTOR_BRIDGE_TOKEN_KEY": key,
                # All dashboards are of one user at one address.
                "DISTRIBUTOR_BRIDGE_USER_CONNECTIONS": "10000",
                "DISTRIBUTOR_BRIDGE_ADDRESS_CONNECTIONS": "10000",
            },
        )
        new = NewToken(CallerKind.USER, "bench", now, now + TOKEN_SECONDS, [Role.VIEWER])
        token = mint(shared_key(key), TokenRules(), new)
        async with process:
            url = json.loads(await process.log_line('"event": "serving dashboards"'))["url"]
            yield Bridge(process.pid, urlsplit(url).netloc, token)

    @property
    def authorization(self) -> Metadata:
        """The metadata of a caller; empty without authentication."""
        return ()

    def channel(self) -> grpc.aio.Channel:
        """Open a separate connection to the server."""
        return grpc.aio.insecure_channel(
            self.address, options=[*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
        )

    async def valkey_info(self, section: str) -> dict[str, str]:
        """Return a section of Valkey's INFO."""
        text = (await self.valkey.call("INFO", section)).decode()
        return dict(line.split(":", 1) for line in text.splitlines() if ":" in line)

    async def valkey_version(self) -> str:
        """Return Valkey's version and its allocator."""
        return f"{(await self.valkey_info('server'))['valkey_version']} with {self._valkey.allocator}"
