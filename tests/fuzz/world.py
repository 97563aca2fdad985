"""The system under test, in processes of its own: Valkey, a server and a bridge, with the settings of an operator."""

from __future__ import annotations

import json
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from pydantic import SecretStr

from distributor.app.audit_key_file import add_key
from distributor.cli.token import TokenRequest, token_for
from distributor.identity.caller import CallerKind
from distributor.settings import ServerSettings
from distributor.store.embedded import EmbeddedValkey
from tests.fuzz.params_schema import SCHEMA, TYPE
from tests.support.launched_server import ROOT, LaunchedServer, launched_program, launched_server, somewhere

PROBE_AGENT: Final = "probe"


@dataclass(frozen=True)
class World:
    """Addresses, processes, and tokens: of an unrestricted user, of one with grants for fuzzed agents, of agents."""

    server: LaunchedServer
    bridge: LaunchedServer
    probe: LaunchedServer
    valkey_pid: int
    grpc_address: str
    bridge_address: str
    token: str
    narrow_token: str
    agent_token: Callable[[str], str]

    @property
    def pids(self) -> dict[str, int]:
        """Processes whose memory must stay bounded. Valkey's is bounded by retention, not by what is refused."""
        return {"server": self.server.process.pid, "bridge": self.bridge.process.pid}


@asynccontextmanager
async def world(folder: Path) -> AsyncIterator[World]:
    """Start everything, with authentication and the audit trail on."""
    key = secrets.token_hex(32)
    settings = ServerSettings(token_key=SecretStr(key))

    def token(name: str, kind: CallerKind, *roles: str, agents: Sequence[str] = ()) -> str:
        return token_for(settings, TokenRequest(name, "12h", kind, roles=roles, agents=agents))

    def agent_token(agent_id: str) -> str:
        return token(agent_id, CallerKind.AGENT)

    add_key(folder / "audit.key", "k1")
    (folder / "fuzzed.schema.json").write_text(json.dumps(SCHEMA))
    (folder / "policy.toml").write_text(f'[types.{TYPE}]\nschema = "fuzzed.schema.json"\n')
    async with AsyncExitStack() as stack:
        valkey = await stack.enter_async_context(EmbeddedValkey(folder / "valkey"))
        server = await stack.enter_async_context(
            launched_server(
                *("serve", *somewhere(folder), "--log-format=json", f"--valkey-url={valkey.url}"),
                DISTRIBUTOR_TOKEN_KEY=key,
                DISTRIBUTOR_AUDIT_KEY_FILE=str(folder / "audit.key"),
                DISTRIBUTOR_POLICY_FILE=str(folder / "policy.toml"),
                # What is refused early would not be fuzzed further in.
                DISTRIBUTOR_AGENT_CONNECTS="0",
                DISTRIBUTOR_CALLER_CALL_RATE="0",
                DISTRIBUTOR_CALLER_COMMAND_RATE="0",
                DISTRIBUTOR_FAILED_CREDENTIALS_RATE="0",
            )
        )
        grpc_address = json.loads(await server.line('"event": "serving"'))["grpc"]
        bridge = await stack.enter_async_context(
            launched_server(
                *("bridge", "--listen=127.0.0.1:0", f"--server={grpc_address}", "--log-format=json"),
                f"--valkey-url={valkey.url}",
                DISTRIBUTOR_BRIDGE_TOKEN_KEY=key,
                DISTRIBUTOR_BRIDGE_SERVER_TOKEN=token("bridge", CallerKind.SERVICE, "delegate"),
                DISTRIBUTOR_BRIDGE_FAILED_CREDENTIALS_RATE="0",
                DISTRIBUTOR_BRIDGE_USER_MESSAGE_RATE="0",
            )
        )
        url = json.loads(await bridge.line('"event": "serving dashboards"'))["url"]
        user = token("fuzz", CallerKind.USER, "admin")
        probe = await stack.enter_async_context(
            launched_program(
                *(sys.executable, "-m", "tests.fuzz.probe", grpc_address, PROBE_AGENT),
                environment={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin"}
                | {"PROBE_AGENT_TOKEN": agent_token(PROBE_AGENT), "PROBE_CALLER_TOKEN": user},
                cwd=folder,
            )
        )
        await probe.line("heartbeat")
        assert valkey.pid is not None
        narrow = token("narrow", CallerKind.USER, "admin", agents=["fuzz-*"])
        pages = urlsplit(url).netloc
        yield World(server, bridge, probe, valkey.pid, grpc_address, pages, user, narrow, agent_token)
