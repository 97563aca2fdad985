"""`distributor demo`: one real command, from the queue to an agent and back, with everything it leaves behind."""

from __future__ import annotations

import asyncio
import shlex
from datetime import UTC, datetime
from typing import Final, Protocol

import click

from distributor.app.dev import AGENT_ID, running
from distributor.app.signals import StopSignals
from distributor.cli.dev import described
from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import show_error
from distributor.client import (
    CommandClient,
    CommandRequest,
    CommandResult,
    CommandState,
    CommandStatus,
    OutputChunk,
    OutputStream,
    Receipts,
)
from distributor.errors import Unavailable
from distributor.settings import BridgeSettings, ServerSettings, split_address
from distributor.tasks import first_of
from distributor.wire.transport import DEFAULT_PORT

AGENT_START_SECONDS: Final = 5.0
PROGRAM: Final = (
    'for i in 1 2 3 4 5; do echo "line $i of 5, from $(uname -sm)"; sleep 0.3; done; echo "and one on stderr" >&2'
)


class HasAgent(Protocol):
    """A server that knows its agents."""

    def has_agent(self, agent_id: str) -> bool:
        """Whether this agent is attached."""


async def demonstrate(settings: ServerSettings, bridge_settings: BridgeSettings, once: bool) -> None:
    """Run the command and, unless `once`, stay until SIGTERM or Ctrl-C.

    Raises Exit, with ExitCode.FAILED, when the command does not complete.
    """
    with StopSignals() as signals:
        async with running(settings, bridge_settings) as everything:
            click.echo(described(everything, settings))
            address = f"{split_address(settings.listen)[0]}:{everything.server.port}"
            work = _run_one(everything.server, address, settings.offline_after)
            stopped = await first_of(signals.wait(), everything.run(), work) == 0
            if not once and not stopped:
                click.echo(f"\nStill running. Watch and use it in a browser:\n\n  {everything.bridge.url}\n")
                click.echo(f"Or in another terminal:\n\n{_hints(address)}\n\nCtrl-C stops everything.")
                await first_of(signals.wait(), everything.run())


async def _run_one(server: HasAgent, address: str, offline_after: float) -> None:
    await agent_attached(server, offline_after)
    async with CommandClient(address) as client:
        argv = ["sh", "-c", PROGRAM]
        queued = await client.queue(CommandRequest(AGENT_ID, "EXEC", {"argv": argv}))
        command_id = queued.command.command_id
        click.echo(f"\nQueued {command_id} for {AGENT_ID}: EXEC\n\n  $ {shlex.join(argv)}\n")
        receipts = Receipts()
        async for update in client.watch(command_id):
            match update:
                case CommandState():
                    receipts = update.receipts
                case OutputChunk():
                    _show_output(update)
                case CommandResult():
                    click.echo(described_result(update))
                    click.echo(described_receipts(receipts))
                    if update.status is not CommandStatus.COMPLETED:
                        show_error(f"the command ended {update.status}: {update.reason.message}", "distributor")
                        raise click.exceptions.Exit(ExitCode.FAILED)
                case _:
                    pass


async def agent_attached(server: HasAgent, offline_after: float) -> None:
    """Return once the agent is attached. It starts as a process of its own, and one that was killed may be in its way.

    Raises Unavailable where it does not come.
    """
    began = asyncio.get_running_loop().time()
    told = False
    while not server.has_agent(AGENT_ID):
        waited = asyncio.get_running_loop().time() - began
        if waited > AGENT_START_SECONDS + offline_after:
            raise Unavailable(f"agent {AGENT_ID} did not attach within {waited:.0f} s; its log says why")
        if waited > AGENT_START_SECONDS and not told:
            told = True
            click.echo(
                f"  Waiting for {AGENT_ID}. If one was killed just now, its session expires {offline_after:g} s after "
                "it was last heard."
            )
        await asyncio.sleep(0.05)


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
