"""Runs a server with an embedded Valkey, a bridge and an agent, for `distributor dev` and `demo`."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final, NamedTuple

from distributor.app.agent_process import AgentProcess
from distributor.app.bridge_process import BridgeProcess, serving_dashboards
from distributor.app.dev_credentials import DevCredentials, dev_credentials
from distributor.app.preflight import check_addresses
from distributor.app.server_process import ServerProcess, serving
from distributor.errors import ConfigurationError
from distributor.processes.supervisor import Supervisor
from distributor.settings import BridgeSettings, ServerSettings, is_loopback, split_address
from distributor.tasks import first_of
from distributor.wire.listening import check_free

AGENT_ID: Final = "dev-agent"
AGENT_CAPACITY: Final = 4


class DevProcesses(NamedTuple):
    """The running server, bridge and agent, and the credentials with which to use them."""

    server: ServerProcess
    bridge: BridgeProcess
    agent: Supervisor
    credentials: DevCredentials

    async def run(self) -> None:
        """Wait until a background loop fails, and raise its error."""
        await first_of(self.server.run(), self.bridge.run(), self.agent.run())


@contextlib.asynccontextmanager
async def running_dev(settings: ServerSettings, bridge_settings: BridgeSettings) -> AsyncIterator[DevProcesses]:
    """Run a server, a bridge and an agent that may EXEC, on loopback only: TLS is off, and a token runs any program."""
    addresses = {
        "listen": settings.listen,
        "http-listen": settings.http_listen,
        "bridge-listen": bridge_settings.listen,
    }
    for name, address in addresses.items():
        if not is_loopback(split_address(address)[0]):
            raise ConfigurationError(
                f"dev and demo listen only on loopback, not on {address} ({name}): their agent runs any program",
                field=name,
            )
    _check_plain(settings, bridge_settings)
    if "listen" not in bridge_settings.model_fields_set:
        # Not checked: without a setting, the bridge falls back to any free port.
        del addresses["bridge-listen"]
    check_addresses(addresses, None if settings.valkey_url else settings.data_dir)
    credentials = dev_credentials(settings, bridge_settings, AGENT_ID)
    async with serving(credentials.server) as server:
        address = f"{split_address(settings.listen)[0]}:{server.port}"
        agent_process = AgentProcess(_agent(address, settings, credentials.agent_token))
        async with _bridge(server, address, credentials.bridge) as bridge, agent_process as agent:
            yield DevProcesses(server, bridge, agent.supervisor(), credentials)


def _check_plain(settings: ServerSettings, bridge_settings: BridgeSettings) -> None:
    """Raise ConfigurationError for TLS between the parts: the agent would not know which authority to trust."""
    given = {
        "tls_cert in [server]": settings.tls_cert,
        "server_tls in [bridge]": bridge_settings.server_tls,
        "server_ca in [bridge]": bridge_settings.server_ca,
        "server_cert in [bridge]": bridge_settings.server_cert,
    }
    for name, value in given.items():
        if value:
            raise ConfigurationError(
                f"dev and demo use plain text on loopback: unset {name}, or run serve, bridge and command-agent",
                field=name,
            )


def _bridge(
    server: ServerProcess, address: str, settings: BridgeSettings
) -> contextlib.AbstractAsyncContextManager[BridgeProcess]:
    """Run a bridge to this server, on any port if the default is taken."""
    own: dict[str, object] = {"valkey_url": server.valkey_url, "server": address}
    if "listen" not in settings.model_fields_set and _is_taken(settings.listen):
        own["listen"] = f"{split_address(settings.listen)[0]}:0"
    return serving_dashboards(settings.model_copy(update=own), dev=True)


def _is_taken(address: str) -> bool:
    try:
        check_free(address, "bridge-listen")
    except ConfigurationError:
        return True
    return False


def _agent(server: str, settings: ServerSettings, token: Path) -> list[str]:
    return [
        sys.executable,
        "-c",
        "from distributor.cli.command_agent import main; main()",
        f"--agent={AGENT_ID}",
        f"--server={server}",
        f"--capacity={AGENT_CAPACITY}",
        f"--token-file={token}",
        f"--journal={settings.data_dir / f'{AGENT_ID}.journal'}",
        f"--log-level={settings.log_level}",
        "--allow-exec",
    ]
