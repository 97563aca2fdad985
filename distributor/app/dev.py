"""A server with an embedded Valkey, a bridge and one agent: what `distributor dev` and `demo` run."""

from __future__ import annotations

import contextlib
import secrets
import socket
import sys
from collections.abc import AsyncIterator
from typing import Final, NamedTuple

from pydantic import SecretStr

from distributor.app.agent_process import AgentProcess
from distributor.app.bridge_process import BridgeProcess
from distributor.app.preflight import check_addresses
from distributor.app.server_process import ServerProcess
from distributor.errors import ConfigurationError
from distributor.processes.supervisor import Supervisor
from distributor.settings import BridgeSettings, ServerSettings, is_loopback, split_address
from distributor.tasks import first_of

AGENT_ID: Final = "dev-agent"
AGENT_CAPACITY: Final = 4


class Everything(NamedTuple):
    """What runs."""

    server: ServerProcess
    bridge: BridgeProcess
    agent: Supervisor

    async def run(self) -> None:
        """Return only by raising what a background loop failed with."""
        await first_of(self.server.run(), self.bridge.run(), self.agent.run())


@contextlib.asynccontextmanager
async def running(settings: ServerSettings, bridge_settings: BridgeSettings) -> AsyncIterator[Everything]:
    """A server, a bridge and an agent that may EXEC. On loopback only: EXEC runs whatever it is told."""
    for name, address in (("listen", settings.listen), ("bridge-listen", bridge_settings.listen)):
        if not is_loopback(split_address(address)[0]):
            raise ConfigurationError(
                f"dev and demo listen on loopback only, not {name} {address}: their agent runs what it is told",
                field=name,
            )
    addresses = {"listen": settings.listen, "http_listen": settings.http_listen}
    if "listen" in bridge_settings.model_fields_set:
        addresses["bridge-listen"] = bridge_settings.listen
    check_addresses(addresses, None if settings.valkey_url else settings.data_dir)
    async with ServerProcess(settings) as server:
        address = f"{split_address(settings.listen)[0]}:{server.port}"
        agent_process = AgentProcess(_agent(address, settings.log_level))
        async with _bridge(server, address, bridge_settings) as bridge, agent_process as agent:
            yield Everything(server, bridge, agent.supervisor())


def _bridge(server: ServerProcess, address: str, settings: BridgeSettings) -> BridgeProcess:
    """A bridge to this server, with a key of its own unless one is set, on any port if the usual one is taken."""
    own: dict[str, object] = {"valkey_url": server.valkey_url, "server": address}
    if not settings.signing_key():
        own["token_key"] = SecretStr(secrets.token_urlsafe(32))
    if "listen" not in settings.model_fields_set and _is_taken(settings.listen):
        own["listen"] = f"{split_address(settings.listen)[0]}:0"
    return BridgeProcess(settings.model_copy(update=own), dev=True)


def _is_taken(address: str) -> bool:
    with contextlib.suppress(OSError), socket.create_server(split_address(address)):
        return False
    return True


def _agent(server: str, log_level: str) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from distributor.cli.command_agent import main; main()",
        f"--agent={AGENT_ID}",
        f"--server={server}",
        f"--capacity={AGENT_CAPACITY}",
        f"--log-level={log_level}",
        "--allow-exec",
    ]
