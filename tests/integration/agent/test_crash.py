"""An agent that is killed and started again with its journal."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from distributor.agent.journal import Journal
from distributor.agent.journal_entries import CommandEntry, JournalBatch, Stage
from distributor.agent.journal_policy import JournalPolicy
from distributor.agent.journal_writer import LATER_SECONDS
from distributor.agent.orphans import mark_of
from distributor.cli.exit_codes import ExitCode
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.integration.agent.test_command_agent_process import command_agent
from tests.support.scripted_gateway import ScriptedGateway, ScriptedSession, assignment
from tests.support.waiting import until

FAILED = command_pb2.COMMAND_STATUS_FAILED
COMPLETED = command_pb2.COMMAND_STATUS_COMPLETED

COMMAND = f"crash-{uuid.uuid4()}"
"""Its own in each run: processes of a command are found by it."""

COUNT = "import itertools, time\nfor n in itertools.count():\n print(f'{n:09}', flush=True)\n time.sleep(0.01)"
WITH_DAEMON = """
import os, time
if os.fork() == 0:
    os.setsid()
    if os.fork():
        os._exit(0)
print(os.getpid(), flush=True)
time.sleep(600)
"""
"""The daemon has neither the group nor a parent in common with the program: it is found by its environment."""


class Killable:
    """A `command-agent` that keeps the same journal whenever it is started."""

    def __init__(self, gateway: ScriptedGateway, journal: Path) -> None:
        self._gateway = gateway
        self._journal = journal
        self._options = ["--agent=agent123", f"--server={gateway.address}", "--allow-exec", f"--journal={journal}"]

    @asynccontextmanager
    async def running(self, *options: str) -> AsyncIterator[ScriptedSession]:
        """Started, attached, and killed at the end; the session is not welcomed yet."""
        async with command_agent(*self._options, "--capacity=4", *options) as process:
            yield await self._gateway.attached()
            process.send_signal(signal.SIGKILL)
            await process.wait()

    async def journalled(self, line: bytes) -> None:
        """Return once a line of output is in the journal. Its database is locked, but its files can be read."""

        def is_there() -> bool:
            files = [self._journal, self._journal.with_name(f"{self._journal.name}-wal")]
            return any(line in file.read_bytes() for file in files if file.exists())

        await until(is_there)


@pytest.fixture
def killable(gateway: ScriptedGateway, tmp_path: Path) -> Killable:
    return Killable(gateway, tmp_path / "agent.journal")


def program(command_id: str, text: str) -> pb.Assignment:
    return assignment(command_id, "EXEC", argv=[sys.executable, "-c", text])


def kept(command_id: str, offset: int = 0) -> tuple[pb.HeldCommandVerdict]:
    return (pb.HeldCommandVerdict(command_id=command_id, verdict=pb.VERDICT_KEEP, output_offset=offset),)


async def printed(session: ScriptedSession, command_id: str, size: int) -> None:
    await session.until(lambda _: len(session.output(command_id)) >= size)


async def test_what_ran_has_an_unknown_outcome_and_its_processes_are_ended(killable: Killable) -> None:
    """Also those that left the process group, but not those of anybody else."""
    async with killable.running() as session:
        await session.welcome()
        await session.command(program(COMMAND, WITH_DAEMON))
        await session.until(lambda _: session.output(COMMAND).count(b"\n") == 2)
        marks = [mark for pid in session.output(COMMAND).split() if (mark := mark_of(int(pid)))]
        journal_id = session.hello.journal_id
    assert len(marks) == 2
    async with killable.running() as session:
        assert session.hello.journal_id == journal_id != ""
        await session.welcome()
        result = await session.result(COMMAND)
        assert (result.status, result.reason.code) == (FAILED, "outcome_unknown")
        assert "2 of its processes outlived the agent and were ended" in result.reason.message
        assert not result.survivors
        assert [mark_of(mark.pgid) for mark in marks] == [None, None]
        await session.command(assignment(COMMAND, "EXEC", attempt=2, argv=["true"]))
        await session.until(lambda _: len(session.results(COMMAND)) == 2)
        assert session.results(COMMAND)[1].reason.code == "outcome_unknown", "it is not started again"


async def test_a_program_of_another_agent_is_left_alone_whatever_its_command_id(
    gateway: ScriptedGateway, tmp_path: Path
) -> None:
    """Two agents of different servers may know different commands by the same id."""
    options = ["--agent=other", f"--server={gateway.address}", "--allow-exec", "--journal=off"]
    async with command_agent(*options):
        other = await gateway.session()
        await other.command(program(COMMAND, "import os, time; print(os.getpid(), flush=True); time.sleep(600)"))
        await other.until(lambda _: b"\n" in other.output(COMMAND))
        mark = mark_of(int(other.output(COMMAND)))
        assert mark
        try:
            killable = Killable(gateway, tmp_path / "agent.journal")
            async with killable.running() as session:
                await session.welcome()
                await session.command(program(COMMAND, WITH_DAEMON))
                await session.until(lambda _: session.output(COMMAND).count(b"\n") == 2)
            async with killable.running() as session:
                await session.welcome()
                result = await session.result(COMMAND)
                assert "2 of its processes outlived the agent and were ended" in result.reason.message
            assert mark_of(mark.pgid) == mark
        finally:
            os.kill(mark.pgid, signal.SIGKILL)


async def test_processes_that_outlived_the_agent_are_reported_and_left_alone_if_so_set(killable: Killable) -> None:
    async with killable.running() as session:
        await session.welcome()
        await session.command(program(COMMAND, "import os, time; print(os.getpid(), flush=True); time.sleep(600)"))
        await printed(session, COMMAND, 1)
        mark = mark_of(int(session.output(COMMAND)))
    assert mark
    try:
        async with killable.running("--orphans=report") as session:
            await session.welcome()
            result = await session.result(COMMAND)
            assert (result.status, result.reason.code) == (FAILED, "outcome_unknown")
            assert [(one.pid, "time.sleep" in one.name) for one in result.survivors] == [(mark.pgid, True)]
            assert mark_of(mark.pgid) == mark
    finally:
        os.kill(mark.pgid, signal.SIGKILL)


async def test_output_has_no_gap_and_no_repeat_over_a_crash(killable: Killable) -> None:
    async with killable.running() as session:
        session.ack_output = False
        await session.welcome()
        await session.command(program(COMMAND, COUNT))
        await printed(session, COMMAND, 200)
        before = session.output(COMMAND)
        # What the server saw last is in the journal a moment later, for it was not acknowledged.
        await killable.journalled(before.rpartition(b"\n")[0].rpartition(b"\n")[2] + b"\n")
    async with killable.running() as session:
        await session.welcome(verdicts=kept(COMMAND, 50))
        result = await session.result(COMMAND)
        parts = [part for message in session.seen for part in message.output]
        assert parts[0].offset == 50
        assert result.output_bytes == 50 + len(session.output(COMMAND))
        after = before[:50] + session.output(COMMAND)
        assert after.startswith(before)
        lines = after.split(b"\n")
        assert [int(line) for line in lines[:-1]] == list(range(len(lines) - 1))


async def test_output_written_while_there_was_no_server_survives(killable: Killable, gateway: ScriptedGateway) -> None:
    async with killable.running() as session:
        await session.welcome()
        await session.command(program(COMMAND, COUNT))
        await printed(session, COMMAND, 1)
        await gateway.stop()
        seen = session.output(COMMAND)
        await killable.journalled(b"%09d\n" % (seen.count(b"\n") + 25))
    await gateway.start()
    async with killable.running() as session:
        await session.welcome(verdicts=kept(COMMAND, len(seen)))
        await session.result(COMMAND)
        lines = (seen + session.output(COMMAND)).split(b"\n")
        assert [int(line) for line in lines[:-1]] == list(range(len(lines) - 1))
        assert len(lines) > 20


async def test_output_that_only_the_server_has_counts(killable: Killable) -> None:
    """It was acknowledged before it had to be written to the journal."""
    async with killable.running() as session:
        await session.welcome()
        await session.command(program(COMMAND, "import time; print('x' * 99, flush=True); time.sleep(600)"))
        await printed(session, COMMAND, 100)
    async with killable.running() as session:
        await session.welcome(verdicts=kept(COMMAND, 100))
        assert (await session.result(COMMAND)).output_bytes == 100
        assert session.output(COMMAND) == b""


async def test_a_result_is_kept_until_it_is_acknowledged(killable: Killable) -> None:
    async with killable.running() as session:
        session.ack_results = session.ack_output = False
        await session.welcome()
        await session.command(assignment(COMMAND, "EXEC", argv=["echo", "done"]))
        await session.result(COMMAND)
    for _ in range(2):
        async with killable.running() as session:
            session.ack_results = False
            assert [(one.command_id, one.output_offset) for one in session.hello.unacknowledged] == [(COMMAND, 5)]
            await session.welcome(verdicts=kept(COMMAND))
            result = await session.result(COMMAND)
            assert (result.status, result.exit_code, session.output(COMMAND)) == (COMPLETED, 0, b"done\n")
    async with killable.running() as session:
        await session.welcome(verdicts=kept(COMMAND, 5))
        await session.result(COMMAND)
        await asyncio.sleep(2 * LATER_SECONDS)
    async with killable.running() as session:
        assert not session.hello.unacknowledged
        await session.welcome()
        await session.command(assignment(COMMAND, "EXEC", attempt=2, argv=["echo", "again"]))
        assert (await session.result(COMMAND)).lease_id == f"lease-{COMMAND}-2"
        assert session.output(COMMAND) == b"", "it is answered from the journal"


async def test_what_was_received_and_not_started_is_given_back(killable: Killable, tmp_path: Path) -> None:
    journal, _ = Journal.open(JournalPolicy(tmp_path / "agent.journal"), "agent123")
    journal.commit(JournalBatch([CommandEntry(COMMAND, f"lease-{COMMAND}-1", Stage.RECEIVED)]))
    journal.close()
    async with killable.running() as session:
        assert [held.command_id for held in session.hello.running] == [COMMAND]
        await session.welcome(verdicts=kept(COMMAND))
        refused = await session.refused(COMMAND)
        assert (refused.code, refused.reason.code) == (pb.REFUSAL_CODE_BUSY, "agent_restarted")
        await session.command(assignment(COMMAND, "EXEC", attempt=2, argv=["echo", "first"]))
        assert (await session.result(COMMAND)).status == COMPLETED
        assert session.output(COMMAND) == b"first\n"


async def test_a_ping_is_not_kept(killable: Killable) -> None:
    """Control commands are not kept: repeating them is harmless."""
    async with killable.running() as session:
        session.ack_results = False
        await session.welcome()
        await session.command(assignment("p"))
        await session.result("p")
    async with killable.running() as session:
        assert not session.hello.unacknowledged


async def test_a_second_agent_on_the_journal_does_not_start(
    killable: Killable, gateway: ScriptedGateway, tmp_path: Path
) -> None:
    async with killable.running():
        options = ["--agent=agent123", f"--server={gateway.address}", f"--journal={tmp_path / 'agent.journal'}"]
        async with command_agent(*options) as second:
            assert second.stderr
            assert await second.wait() == ExitCode.USAGE
            assert b"is in use by another agent process" in await second.stderr.read()
