"""`distributor dev`: a server with an embedded Valkey, a bridge and one agent, until stopped."""

from __future__ import annotations

from typing import Final

import click

from distributor.app.dev import AGENT_ID, DevProcesses, running_dev
from distributor.app.signals import StopSignals
from distributor.settings import BridgeSettings, ServerSettings, split_address
from distributor.settings.contexts import Context, store_context
from distributor.store.valkey_connection import without_password
from distributor.tasks import first_of

DEV_CONTEXT: Final = "dev"


def store_dev_context(processes: DevProcesses, settings: ServerSettings) -> bool:
    """Let `command-sender` find this server and the user's token; return whether it does so without --context."""
    server = f"{split_address(settings.listen)[0]}:{processes.server.port}"
    token = processes.credentials.user_token.read_text().strip()
    return store_context(Context(DEV_CONTEXT, server, token=token)).current == DEV_CONTEXT


async def develop(settings: ServerSettings, bridge_settings: BridgeSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop everything in order."""
    with StopSignals() as signals:
        async with running_dev(settings, bridge_settings) as processes:
            store_dev_context(processes, settings)
            click.echo(startup_text(processes, settings))
            click.echo("Ctrl-C stops everything.")
            await first_of(signals.wait(), processes.run())


def startup_text(processes: DevProcesses, settings: ServerSettings) -> str:
    """The start-up screen: every address, and a note that access is local."""
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
            f"  Loopback only, with credentials for you, {credentials.user}: context {DEV_CONTEXT} of command-sender",
        ]
    )
