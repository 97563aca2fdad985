"""`distributor dev`: a server with an embedded Valkey, a bridge and one agent, until stopped."""

from __future__ import annotations

import click

from distributor.app.dev import AGENT_ID, DevProcesses, running_dev
from distributor.app.signals import StopSignals
from distributor.settings import BridgeSettings, ServerSettings, split_address
from distributor.store.valkey_connection import without_password
from distributor.tasks import first_of


async def develop(settings: ServerSettings, bridge_settings: BridgeSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop everything in order."""
    with StopSignals() as signals:
        async with running_dev(settings, bridge_settings) as processes:
            click.echo(startup_text(processes, settings))
            click.echo("Ctrl-C stops everything.")
            await first_of(signals.wait(), processes.run())


def startup_text(processes: DevProcesses, settings: ServerSettings) -> str:
    """The start-up screen: every address, and that access is local."""
    server, credentials = processes.server, processes.credentials
    host, _ = split_address(settings.listen)
    http_host, _ = split_address(settings.http_listen)
    valkey = without_password(settings.valkey_url) or f"embedded, AOF on, in {settings.data_dir}"
    return "\n".join(
        [
            f"  valkey   {valkey}",
            f"  server   {host}:{server.port} (gRPC)   http://{http_host}:{server.http_port}/metrics",
            f"  agent    {AGENT_ID}, may EXEC",
            f"  page     {processes.bridge.url}",
            f"  Loopback only. Credentials were made for you, {credentials.user}: your token is in",
            f"  {credentials.user_token}",
        ]
    )
