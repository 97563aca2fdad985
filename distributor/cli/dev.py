"""`distributor dev`: a server with an embedded Valkey and one agent, in one go."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator
from typing import Final

import click

from distributor.cli.server_process import ServerProcess
from distributor.cli.serving import first_of, is_loopback
from distributor.cli.signals import StopSignals
from distributor.errors import ConfigurationError
from distributor.settings import ServerSettings, split_address
from distributor.store.child_process import ChildProcess

AGENT_ID: Final = "dev-agent"
AGENT_CAPACITY: Final = 4
AGENT_STOP_SECONDS: Final = 10.0


async def develop(settings: ServerSettings) -> None:
    """Serve until SIGTERM or Ctrl-C, then stop everything in order."""
    with StopSignals() as signals:
        async with running(settings) as server:
            click.echo(described(server, settings))
            click.echo("Ctrl-C stops everything.")
            await first_of(signals.wait(), server.run())


@contextlib.asynccontextmanager
async def running(settings: ServerSettings) -> AsyncIterator[ServerProcess]:
    """A server and, attached to it, an agent that may EXEC. On loopback only: EXEC runs whatever it is told."""
    if not is_loopback(settings.listen):
        raise ConfigurationError(
            f"dev and demo listen on loopback only, not on {settings.listen}: their agent runs whatever it is told",
            field="listen",
        )
    async with ServerProcess(settings) as server:
        agent = _start_agent(f"{split_address(settings.listen)[0]}:{server.port}")
        try:
            yield server
        finally:
            await agent.stop(AGENT_STOP_SECONDS)


def described(server: ServerProcess, settings: ServerSettings) -> str:
    """Where everything is, for people."""
    host, _ = split_address(settings.listen)
    http_host, _ = split_address(settings.http_listen)
    valkey = "the one at valkey_url" if settings.valkey_url else f"embedded, AOF on, in {settings.data_dir}"
    return "\n".join(
        [
            f"  valkey   {valkey}",
            f"  server   {host}:{server.port} (gRPC)   http://{http_host}:{server.http_port}/metrics",
            f"  agent    {AGENT_ID}, may EXEC",
            "  Loopback only: nobody is asked who they are.",
        ]
    )


def _start_agent(server: str) -> ChildProcess:
    return ChildProcess(
        [
            sys.executable,
            "-c",
            "from distributor.cli.command_agent import main; main()",
            f"--agent={AGENT_ID}",
            f"--server={server}",
            f"--capacity={AGENT_CAPACITY}",
            "--allow-exec",
        ]
    )
