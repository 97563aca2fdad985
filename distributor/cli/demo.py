"""`distributor demo`: run one command from queue to result and show its output and receipts."""

from __future__ import annotations

import asyncio
import shlex
import shutil
import sys
from pathlib import Path
from typing import Final, Protocol

import click

from distributor.app.dev import AGENT_ID, running_dev
from distributor.app.signals import StopSignals
from distributor.cli.dev import DEV_CONTEXT, startup_text, store_dev_context
from distributor.cli.exit_codes import ExitCode
from distributor.cli.one_line import show_error
from distributor.cli.sender.tables import timeline
from distributor.client import (
    ClientCredentials,
    ClientOptions,
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

AGENT_START_SECONDS: Final = 5.0
"""The agent normally attaches within this time."""
PROGRAM: Final = (
    'for i in 1 2 3 4 5; do echo "line $i of 5, from $(uname -sm)"; sleep 0.3; done; echo "and one on stderr" >&2'
)


class HasAgent(Protocol):
    """A server that knows its agents."""

    def has_agent(self, agent_id: str) -> bool:
        """Whether this agent is attached."""


async def demonstrate(settings: ServerSettings, bridge_settings: BridgeSettings, once: bool) -> None:
    """Run the command and, unless `once`, keep serving until SIGTERM or Ctrl-C.

    Raises Exit with ExitCode.FAILED if the command does not complete.
    """
    with StopSignals() as signals:
        async with running_dev(settings, bridge_settings) as processes:
            current = store_dev_context(processes, settings)
            click.echo(startup_text(processes, settings))
            address = f"{split_address(settings.listen)[0]}:{processes.server.port}"
            token_file = processes.credentials.user_token
            work = _run_one(processes.server, address, settings.offline_after, token_file)
            stopped = await first_of(signals.wait(), processes.run(), work) == 0
            if not once and not stopped:
                click.echo(f"\nStill running. Watch and use it in a browser:\n\n  {processes.bridge.url}\n")
                click.echo(f"Or in another terminal:\n\n{_hints(current)}\n\nCtrl-C stops everything.")
                await first_of(signals.wait(), processes.run())


async def _run_one(server: HasAgent, address: str, offline_after: float, token_file: Path) -> None:
    await wait_for_agent(server, offline_after)
    options = ClientOptions(credentials=ClientCredentials(token_file=token_file))
    async with CommandClient(address, options) as client:
        argv = ["sh", "-c", PROGRAM]
        queued = await client.queue(CommandRequest(AGENT_ID, "EXEC", {"argv": argv}))
        command_id = queued.command_id
        click.echo(f"\nQueued {command_id} for {AGENT_ID}: EXEC\n\n  $ {shlex.join(argv)}\n")
        receipts = Receipts()
        async for update in client.watch(command_id):
            match update:
                case CommandState():
                    receipts = update.receipts
                case OutputChunk():
                    _show_output(update)
                case CommandResult():
                    click.echo(result_line(update))
                    click.echo(timeline(receipts))
                    if update.status is not CommandStatus.COMPLETED:
                        show_error(f"the command ended {update.status}: {update.reason.message}", "distributor")
                        raise click.exceptions.Exit(ExitCode.FAILED)
                case _:
                    pass


async def wait_for_agent(server: HasAgent, offline_after: float, start_seconds: float = AGENT_START_SECONDS) -> None:
    """Wait for the agent process to attach; the session of a killed predecessor can delay it.

    Raises Unavailable if it has not attached after `start_seconds` plus `offline_after`.
    """
    began = asyncio.get_running_loop().time()
    announced = False
    while not server.has_agent(AGENT_ID):
        waited = asyncio.get_running_loop().time() - began
        if waited > start_seconds + offline_after:
            raise Unavailable(f"agent {AGENT_ID} did not attach within {waited:.0f} s; its log says why")
        if waited > start_seconds and not announced:
            announced = True
            click.echo(
                f"  Waiting for {AGENT_ID}. If a previous one was killed, its session expires {offline_after:g} s "
                "after its last message."
            )
        await asyncio.sleep(0.05)


def _show_output(chunk: OutputChunk) -> None:
    prefix = b"  | " if chunk.stream is OutputStream.STDOUT else b"  ! "
    for line in chunk.data.splitlines(keepends=True):
        click.echo(prefix + line, nl=False)


def result_line(result: CommandResult) -> str:
    """A summary of the result, with its key in Valkey."""
    return (
        f"\nResult, at cmd:result:{result.command_id}: {result.status}, exit code {result.exit_code}, "
        f"{result.output_bytes} bytes of output\n"
    )


def sender_program() -> str:
    """The `command-sender` next to this program, as the user would type it in the current directory."""
    own = Path(sys.executable).with_name("command-sender")
    if shutil.which(own.name) == str(own) or not own.exists():
        return own.name
    return str(own.relative_to(Path.cwd())) if own.is_relative_to(Path.cwd()) else shlex.quote(str(own))


def _hints(current: bool) -> str:
    """What to type; `current`: the context of `dev` is the current one."""
    sender = sender_program()
    context = "" if current else f" --context={DEV_CONTEXT}"
    return "\n".join(
        [
            f"  {sender}{context} send --agent={AGENT_ID} --follow -- uname -a",
            f"  {sender}{context} list",
        ]
    )
