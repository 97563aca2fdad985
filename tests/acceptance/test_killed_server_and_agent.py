"""A server is killed, then the agent: every line of a program's output once, and a true result."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Final

from distributor.agent.process_table import all_pids, running
from distributor.client import CommandClient, CommandRequest, CommandResult, CommandStatus, OutputChunk, OutputGap
from tests.support.free_port import free_port
from tests.support.launched_sender import ROOT
from tests.support.launched_server import LaunchedServer, launched_server
from tests.support.serving_agent import background
from tests.support.waiting import eventually, until

LINE_SECONDS: Final = 0.05
LOOKED_BACK: Final = 20
"""Lines of the last second before the kill may not have reached the agent yet, which reads output every 50 ms."""

PROGRAM: Final = """
import itertools, sys, time
ledger = open(sys.argv[1], "a", buffering=1)
for number in itertools.count():
    ledger.write(f"{number}\\n")
    print(number, flush=True)
    time.sleep(0.05)
"""


@asynccontextmanager
async def server_at(valkey_url: str, address: str) -> AsyncIterator[LaunchedServer]:
    options = [f"--listen={address}", "--http-listen=127.0.0.1:0", f"--valkey-url={valkey_url}"]
    async with launched_server("serve", *options) as server:
        await server.line("serving")
        yield server


@asynccontextmanager
async def supervised_agent(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A shell that starts the agent again whenever it ends; both are killed at the end."""
    agent = [sys.executable, str(ROOT / "cmd" / "command_agent.py"), *arguments]
    supervisor = await asyncio.create_subprocess_exec(
        "sh", "-c", 'while :; do "$@"; done', "sh", *agent, env=os.environ | {"PYTHONPATH": str(ROOT)}
    )
    try:
        yield supervisor
    finally:
        # First the shell, or it would start another one.
        agents = children(supervisor.pid)
        supervisor.kill()
        await supervisor.wait()
        for pid in agents:
            os.kill(pid, signal.SIGKILL)


def children(pid: int) -> list[int]:
    return [process.pid for process in running(all_pids()) if process.parent == pid]


class Follower:
    """Reads a command to its end, as `command-sender --follow` does."""

    def __init__(self, client: CommandClient, command_id: str) -> None:
        self._client = client
        self._command_id = command_id
        self.output = b""
        self.gaps: list[OutputGap] = []
        self.result: CommandResult | None = None

    async def run(self) -> None:
        async for update in self._client.watch(self._command_id):
            match update:
                case OutputChunk():
                    self.output += update.data
                case OutputGap():
                    self.gaps.append(update)
                case CommandResult():
                    self.result = update

    async def lines(self, count: int) -> None:
        await until(lambda: self.output.count(b"\n") >= count)


async def test_every_line_once_and_a_true_result(valkey_url: str, tmp_path: Path) -> None:
    ledger = tmp_path / "ledger"
    async with AsyncExitStack() as stack:
        addresses = [f"127.0.0.1:{stack.enter_context(free_port())}" for _ in range(2)]
        servers = [await stack.enter_async_context(server_at(valkey_url, address)) for address in addresses]
        supervisor = await stack.enter_async_context(
            supervised_agent(
                "--agent=agent123",
                f"--server={','.join(addresses)}",
                "--allow-exec",
                f"--journal={tmp_path / 'agent.journal'}",
            )
        )
        client = await stack.enter_async_context(CommandClient(",".join(addresses)))

        async def attached() -> bool:
            return any("agent attached" in server.everything for server in servers)

        await eventually(attached)
        argv = [sys.executable, "-c", PROGRAM, str(ledger)]
        queued = await client.queue(CommandRequest("agent123", "EXEC", {"argv": argv}))
        follower = Follower(client, queued.command_id)
        following = await stack.enter_async_context(background(follower.run()))
        await follower.lines(20)

        used = next(server for server in servers if "agent attached" in server.everything)
        used.process.kill()
        await follower.lines(60)

        (agent,) = children(supervisor.pid)
        written = ledger.read_bytes().split(b"\n")[: -1 - LOOKED_BACK]
        os.kill(agent, signal.SIGKILL)
        await following

        assert follower.gaps == []
        lines = follower.output.decode().splitlines()
        assert [int(line) for line in lines] == list(range(len(lines))), "every line once"
        assert len(lines) >= len(written)
        assert follower.result
        assert follower.result.status is CommandStatus.FAILED
        assert follower.result.reason
        assert follower.result.reason.code == "outcome_unknown"
        assert "the agent's process ended while the command was running" in follower.result.reason.message
        assert follower.result.output_bytes == len(follower.output)
        state = (await client.get(queued.command_id)).state
        assert state.attempt == 1
        assert not [one for one in running(all_pids()) if str(ledger) in one.name], "nothing of it runs"
        started_once = [int(line) for line in ledger.read_text().splitlines()]
        assert started_once == list(range(len(started_once)))
