"""The launcher as operators start it: signals, exit codes, mistakes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import grpc
import pytest

from distributor.agent.process_table import group_members
from distributor.cli.exit_codes import ExitCode
from distributor.v1 import command_pb2
from distributor.v1.command_service_pb2 import Agent, ListAgentsRequest
from tests.support.running_server import running_server
from tests.support.scripted_gateway import ScriptedGateway, assignment
from tests.support.waiting import PATIENCE_SECONDS, eventually, until

ROOT = Path(__file__).parents[3]
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED
CANCELLED = command_pb2.COMMAND_STATUS_CANCELLED


@asynccontextmanager
async def python(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """A running interpreter; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *arguments,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def command_agent(*arguments: str) -> AbstractAsyncContextManager[asyncio.subprocess.Process]:
    """A running `cmd/command_agent.py`."""
    return python(str(ROOT / "cmd" / "command_agent.py"), *arguments)


@pytest.mark.parametrize(
    ("preparation", "told"),
    [
        ("", "INFO connected agent_id=greeter"),
        ("import logging; logging.basicConfig(level='INFO', format='theirs: %(message)s')", "theirs: connected"),
    ],
)
async def test_an_agent_of_an_authors_own_tells_that_it_works(
    gateway: ScriptedGateway, preparation: str, told: str
) -> None:
    program = f"from distributor.agent import Agent; Agent('greeter', server='{gateway.address}').run()"
    async with python("-c", f"{preparation}\n{program}") as process:
        assert process.stderr
        session = await gateway.session()
        line = (await process.stderr.readline()).decode()
        assert told in line
        assert gateway.address in line
        process.send_signal(signal.SIGTERM)
        await session.until(lambda _: session.said_goodbye())
        assert await process.wait() == 0
        rest = (await process.stderr.read()).decode()
        assert "connected " not in rest, "each line once"


async def test_stop_ends_the_process_with_success(gateway: ScriptedGateway) -> None:
    async with command_agent("--agent=agent123", f"--server={gateway.address}", "--label=zone=a") as process:
        session = await gateway.session()
        assert (session.hello.agent_id, dict(session.hello.labels)) == ("agent123", {"zone": "a"})
        await session.command(assignment("s", "STOP", reason="test"))
        assert (await session.result("s")).status == COMPLETED
        await session.until(lambda _: session.said_goodbye())
        assert await process.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_running_work_finish(gateway: ScriptedGateway, number: int, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    async with command_agent("--agent=agent123", f"--server={gateway.address}", "--allow-exec") as process:
        session = await gateway.session()
        await session.command(assignment("a", "EXEC", argv=["cat", str(fifo)]))
        await session.started("a")
        process.send_signal(number)
        await session.until(lambda seen: seen[-1].HasField("heartbeat"))
        await asyncio.to_thread(fifo.write_text, "finished")
        assert (await session.result("a")).status == COMPLETED
        assert session.output("a") == b"finished"
        await session.until(lambda _: session.said_goodbye())
        assert await process.wait() == 0


async def test_a_second_signal_cancels_running_work(gateway: ScriptedGateway) -> None:
    async with command_agent("--agent=agent123", f"--server={gateway.address}", "--allow-exec") as process:
        session = await gateway.session()
        await session.command(assignment("a", "EXEC", argv=["sleep", "60"]))
        await session.started("a")
        process.send_signal(signal.SIGTERM)
        await session.until(lambda seen: seen[-1].HasField("heartbeat"))
        process.send_signal(signal.SIGTERM)
        result = await session.result("a")
        assert (result.status, result.reason.code) == (CANCELLED, "agent_stopped")
        await session.until(lambda _: session.said_goodbye())
        assert await process.wait() == 0


async def test_an_agent_that_the_server_refuses_for_good_says_so(gateway: ScriptedGateway) -> None:
    gateway.refuse = [grpc.StatusCode.INVALID_ARGUMENT]
    async with command_agent("--agent=agent123", f"--server={gateway.address}") as process:
        _, stderr = await process.communicate()
        assert process.returncode == ExitCode.REFUSED
        assert "command-agent: the server refuses this agent: refused by the script\n" in stderr.decode()


async def test_the_third_signal_ends_the_process_and_its_programs_at_once(gateway: ScriptedGateway) -> None:
    stubborn = "trap '' TERM; echo $$; sleep 60"
    async with command_agent("--agent=agent123", f"--server={gateway.address}", "--allow-exec") as process:
        session = await gateway.session()
        await session.command(assignment("a", "EXEC", argv=["sh", "-c", stubborn]))
        await session.until(lambda _: session.output("a").endswith(b"\n"))
        process.send_signal(signal.SIGTERM)
        await session.until(lambda seen: seen[-1].HasField("heartbeat"))
        process.send_signal(signal.SIGTERM)
        assert process.stderr
        while b"cause=agent_stopped" not in await process.stderr.readline():
            continue
        process.send_signal(signal.SIGTERM)
        assert await process.wait() == -signal.SIGTERM
        # It was killed already, but the system takes a moment to make it so.
        await until(lambda: not group_members(int(session.output("a"))))


async def test_what_it_says_of_itself_comes_from_its_settings(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        settings = [f"--server={server.address}", "--agent-id=a1", "--capacity=3", "--label=zone=b"]
        async with command_agent(*settings):

            async def attached() -> list[Agent]:
                return list((await server.commands.ListAgents(ListAgentsRequest())).agents)

            (agent,) = await eventually(attached)
    assert (agent.agent_id, agent.capacity, dict(agent.labels)) == ("a1", 3, {"zone": "b"})


OPENING = """
import sys, time
from pathlib import Path
from distributor.agent import Agent
from distributor.agent.journal import Journal
from distributor.agent.journal_policy import JournalPolicy

def hang(policy, agent_id):
    print("opening", file=sys.stderr, flush=True)
    time.sleep(3_600)

Journal.open = hang
agent = Agent("agent123", server="127.0.0.1:1")
agent.journal = JournalPolicy(Path(sys.argv[1]))
agent.run()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_an_agent_whose_journal_is_being_opened(number: int, tmp_path: Path) -> None:
    """It is not lost, and a disk that hangs does not keep the agent from leaving."""
    async with python("-c", OPENING, str(tmp_path / "journal")) as process:
        assert process.stderr
        async with asyncio.timeout(PATIENCE_SECONDS):
            assert await process.stderr.readline() == b"opening\n"
            process.send_signal(number)
            assert await process.wait() == 0


STARTING = """
import importlib, sys, time
from distributor.cli import programs

def import_module(name):
    print("importing", flush=True)
    time.sleep(3_600)

importlib.import_module = import_module
sys.argv = ["distributor", "serve"]
programs.PROGRAM()
"""


@pytest.mark.parametrize("program", ["command_agent", "distributor", "websocket_bridge"])
async def test_sigterm_during_start_up_ends_a_service_well(program: str) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-c",
        STARTING.replace("PROGRAM", program),
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        assert process.stdout
        assert await asyncio.wait_for(process.stdout.readline(), PATIENCE_SECONDS) == b"importing\n"
        process.send_signal(signal.SIGTERM)
        _, errors = await asyncio.wait_for(process.communicate(), PATIENCE_SECONDS)
        assert (process.returncode, errors) == (0, b"")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
