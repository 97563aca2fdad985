"""`distributor demo`: one real command, from the queue to an agent and back, with everything it leaves behind."""

from __future__ import annotations

import asyncio
import contextlib
import json
from datetime import UTC, datetime
from typing import Final

import click

from distributor.cli.dev import AGENT_ID, described, running
from distributor.cli.signals import StopSignals
from distributor.client import (
    AgentStatus,
    CommandClient,
    CommandRequest,
    CommandResult,
    CommandStatus,
    CommandSummary,
    OutputChunk,
    OutputStream,
    Receipts,
)
from distributor.errors import DistributorError, NotFound, Unavailable
from distributor.settings import BridgeSettings, ServerSettings, split_address
from distributor.tasks import first_of
from distributor.transport import DEFAULT_PORT

AGENT_START_SECONDS: Final = 15.0
PROGRAM: Final = (
    'for i in 1 2 3 4 5; do echo "line $i of 5, from $(uname -s) $(uname -m), pid $$"; sleep 0.3; done; '
    "echo 'and one on stderr' >&2"
)


async def demonstrate(settings: ServerSettings, bridge_settings: BridgeSettings, once: bool) -> None:
    """Run the command and, unless `once`, stay until SIGTERM or Ctrl-C.

    Raises DistributorError when the command does not complete.
    """
    with StopSignals() as signals:
        async with running(settings, bridge_settings) as everything:
            click.echo(described(everything, settings))
            address = f"{split_address(settings.listen)[0]}:{everything.server.port}"
            stopped = await first_of(signals.wait(), everything.run(), _run_one(address)) == 0
            if not once and not stopped:
                click.echo(f"\nStill running. Watch and use it in a browser:\n\n  {everything.bridge.url}\n")
                click.echo(f"Or in another terminal:\n\n{_hints(address)}\n\nCtrl-C stops everything.")
                await first_of(signals.wait(), everything.run())


async def _run_one(address: str) -> None:
    async with CommandClient(address) as client:
        await _agent_online(client)
        argv = ["sh", "-c", PROGRAM]
        queued = await client.queue(CommandRequest(AGENT_ID, "EXEC", {"argv": argv}))
        command_id = queued.command.command_id
        click.echo(f"\nQueued {command_id} for {AGENT_ID}: EXEC {json.dumps(argv)}\n")
        receipts = Receipts()
        async for update in client.watch(command_id):
            match update:
                case CommandSummary():
                    receipts = update.state.receipts
                case OutputChunk():
                    _show_output(update)
                case CommandResult():
                    click.echo(described_result(update))
                    click.echo(described_receipts(receipts))
                    if update.status is not CommandStatus.COMPLETED:
                        raise DistributorError(f"the command ended {update.status}: {update.reason.message}")
                case _:
                    pass


async def _agent_online(client: CommandClient) -> None:
    """Return once the agent is attached: it starts as a process of its own."""
    deadline = asyncio.get_running_loop().time() + AGENT_START_SECONDS
    while asyncio.get_running_loop().time() < deadline:
        with contextlib.suppress(NotFound):
            if (await client.agent(AGENT_ID)).status is not AgentStatus.OFFLINE:
                return
        await asyncio.sleep(0.05)
    raise Unavailable(f"agent {AGENT_ID} did not attach within {AGENT_START_SECONDS:g} s; its log says why")


def _show_output(chunk: OutputChunk) -> None:
    prefix = b"  | " if chunk.stream is OutputStream.STDOUT else b"  ! "
    for line in chunk.data.splitlines(keepends=True):
        click.echo(prefix + line, nl=False)


def described_result(result: CommandResult) -> str:
    """The result as it lies in Valkey, in short."""
    return (
        f"\nResult, at cmd:result:{result.command_id}: {result.status}, exit code {result.exit_code}, "
        f"{result.output_bytes} bytes of output\n"
    )


def described_receipts(receipts: Receipts) -> str:
    """Each stage, when it was passed, and how long it took from the one before."""
    lines, before = [], 0
    for name, passed in zip(receipts._fields, receipts, strict=True):
        if passed:
            clock = datetime.fromtimestamp(passed / 1000, UTC).strftime("%H:%M:%S.%f")[:-3]
            latency = f"{passed - before:+6d} ms" if before else ""
            lines.append(f"  {name.removesuffix('_ms'):<13}{clock}  {latency}".rstrip())
            before = passed
    return "\n".join(lines)


def _hints(address: str) -> str:
    server = "" if address.endswith(f":{DEFAULT_PORT}") else f" --server={address}"
    return "\n".join(
        [
            f"  .venv/bin/command-sender{server} send --agent={AGENT_ID} --type=EXEC --follow -- uname -a",
            f"  .venv/bin/command-sender{server} list",
        ]
    )
