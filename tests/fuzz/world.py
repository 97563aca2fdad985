"""The system under test, in processes of its own: Valkey, a server and a bridge, with the settings of an operator."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from distributor.cli.token import TokenRequest, token_for
from distributor.settings import BridgeSettings
from distributor.store.embedded import EmbeddedValkey
from tests.support.launched_server import ROOT, LaunchedServer, launched_program, launched_server, somewhere

PROBE_AGENT: Final = "probe"
OPTIONS: Final = ("--log-format=json", "--log-level=warning")


@dataclass(frozen=True)
class World:
    """Addresses, processes, and a token that permits everything."""

    server: LaunchedServer
    bridge: LaunchedServer
    probe: LaunchedServer
    valkey_pid: int
    grpc_address: str
    bridge_address: str
    token: str

    @property
    def pids(self) -> dict[str, int]:
        """Processes whose memory must stay bounded. Valkey's is bounded by retention, not by what is refused."""
        return {"server": self.server.process.pid, "bridge": self.bridge.process.pid}


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start everything; the server and the bridge log warnings and worse."""
    key = secrets.token_hex(32)
    token = token_for(BridgeSettings(token_key=key), TokenRequest("fuzz", "12h", roles=["operator"]))
    async with AsyncExitStack() as stack:
        valkey = await stack.enter_async_context(EmbeddedValkey(folder / "valkey"))
        server = await stack.enter_async_context(
            launched_server("serve", *somewhere(folder), "--log-format=json", f"--valkey-url={valkey.url}")
        )
        grpc_address = json.loads(await server.line('"event": "serving"'))["grpc"]
        bridge = await stack.enter_async_context(
            launched_server(
                *("bridge", "--listen=127.0.0.1:0", f"--server={grpc_address}", "--log-format=json"),
                f"--valkey-url={valkey.url}",
                DISTRIBUTOR_BRIDGE_TOKEN_KEY=key,
            )
        )
        url = json.loads(await bridge.line('"event": "serving dashboards"'))["url"]
        probe = await stack.enter_async_context(
            launched_program(
                *(sys.executable, "-m", "tests.fuzz.probe", grpc_address, PROBE_AGENT, ""),
                environment={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"},
                cwd=folder,
            )
        )
        await probe.line("heartbeat")
        assert valkey.pid is not None
        yield World(server, bridge, probe, valkey.pid, grpc_address, urlsplit(url).netloc, token)
