"""The journal's writer on a disk that is slow or refuses: commits go on afterwards, and nothing is left over."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from distributor.agent import journal_writer
from distributor.agent.agent_journal import AgentJournal
from distributor.agent.journal import Journal, JournalError
from distributor.agent.journal_entries import CommandEntry, JournalBatch, Stage
from distributor.agent.journal_policy import JournalPolicy
from distributor.agent.journal_thread import JournalThread
from distributor.agent.journal_writer import JournalWriter
from distributor.agent.record import CommandRecord
from distributor.errors import ConfigurationError
from distributor.model.command import Reason
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2
from tests.support.waiting import until

SECONDS = 10.0
FULL = JournalError(Reason("journal_full", "disk full"))


class Disk:
    """Takes the place of `Journal.commit`: `hold` makes commits wait, `error` makes them fail."""

    def __init__(self, commit: Callable[[Journal, JournalBatch], None]) -> None:
        self._commit = commit
        self._free = threading.Event()
        self._free.set()
        self.error: BaseException | None = None
        self.entered = threading.Event()

    def hold(self) -> None:
        self.entered.clear()
        self._free.clear()

    def release(self) -> None:
        self._free.set()

    def commit(self, journal: Journal, batch: JournalBatch) -> None:
        self.entered.set()
        self._free.wait()
        if self.error:
            raise self.error
        self._commit(journal, batch)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    made = Disk(Journal.commit)
    monkeypatch.setattr(Journal, "commit", lambda journal, batch: made.commit(journal, batch))
    monkeypatch.setattr(journal_writer, "LATER_SECONDS", 0.05)
    monkeypatch.setattr(journal_writer, "RETRY_SECONDS", 0.05)
    return made


@pytest.fixture
def record() -> CommandRecord:
    return CommandRecord(durable=True)


@pytest.fixture
async def writer(disk: Disk, record: CommandRecord, tmp_path: Path) -> AsyncIterator[JournalWriter]:
    thread = JournalThread()
    await thread.open(JournalPolicy(tmp_path / "journal"), "agent123")
    made = JournalWriter(record, thread)
    yield made
    disk.error = None
    disk.release()
    if not made._closing:
        await made.close()


async def entered(disk: Disk) -> None:
    assert await asyncio.to_thread(disk.entered.wait, SECONDS)


@pytest.mark.parametrize("error", [None, FULL])
async def test_commits_continue_after_one_that_outlasts_the_timer(
    disk: Disk, record: CommandRecord, writer: JournalWriter, error: JournalError | None
) -> None:
    record.start("old", "l")
    record.finish(gateway.Result(command_id="old"))
    await until(lambda: record.is_written("old"))
    disk.hold()
    record.start("new", "l")
    await entered(disk)
    record.acknowledge("old", stored=True)
    await asyncio.sleep(3 * journal_writer.LATER_SECONDS)  # the timer expires during the commit
    disk.error = error
    disk.release()
    if error:
        await until(lambda: record.journal_failing)
        disk.error = None
    await until(lambda: record.journal_problem is None and not record.unwritten and record.is_written("new"))


async def test_output_of_a_command_that_ends_while_commits_fail_is_removed(
    disk: Disk, record: CommandRecord, writer: JournalWriter, tmp_path: Path
) -> None:
    held = record.start("c", "l")
    await until(lambda: record.is_written("c"))
    held.window.append(command_pb2.OUTPUT_STREAM_STDOUT, b"x" * 5000)
    writer.output_written("c")
    await until(lambda: not held.window.has_unjournalled)
    disk.error = FULL
    record.finish(gateway.Result(command_id="c"))
    await until(lambda: record.journal_failing)
    record.acknowledge("c", stored=True)
    disk.entered.clear()
    await entered(disk)  # a retry that fails, too
    disk.error = None
    await until(lambda: not record.journal_failing and not record.unwritten)
    await writer.close()
    with sqlite3.connect(tmp_path / "journal") as database:
        assert database.execute("SELECT count(*) FROM output").fetchone() == (0,)
    database.close()


async def test_an_unexpected_error_in_a_commit_is_a_failure_like_others(
    disk: Disk, record: CommandRecord, writer: JournalWriter
) -> None:
    disk.error = MemoryError()
    record.start("c", "l")
    await until(lambda: record.journal_failing)
    assert record.journal_problem
    assert record.journal_problem.code == "journal_failed"
    disk.error = None
    await until(lambda: record.journal_problem is None and record.is_written("c"))


async def test_a_commit_that_hangs_is_a_problem_until_it_ends(
    disk: Disk, record: CommandRecord, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "SLOW_SECONDS", 0.05)
    reported: list[str | None] = []
    writer.on_problem = lambda: reported.append(record.journal_problem and record.journal_problem.code)
    disk.hold()
    record.start("c", "l")
    await until(lambda: reported == ["journal_slow"])
    assert not record.journal_failing
    disk.release()
    await until(lambda: reported == ["journal_slow", None])
    assert record.is_written("c")


async def test_closing_is_bounded_although_a_commit_hangs(
    disk: Disk, record: CommandRecord, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journal_writer, "CLOSE_SECONDS", 0.1)
    disk.hold()
    record.start("c", "l")
    await entered(disk)
    async with asyncio.timeout(SECONDS):
        await writer.close()
    disk.release()


async def test_commits_continue_if_what_follows_one_raises(
    disk: Disk, record: CommandRecord, writer: JournalWriter
) -> None:
    unraised: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: unraised.append(context["exception"]))

    def broken() -> None:
        raise RuntimeError("broken")

    try:
        writer.on_written = broken
        disk.hold()
        record.start("a", "l")
        await entered(disk)
        record.start("b", "l")
        disk.release()
        await until(lambda: record.is_written("b"))
    finally:
        asyncio.get_running_loop().set_exception_handler(None)
    assert unraised


@pytest.mark.parametrize("damage", ["result = x'ffffff'", "stage = 77", "output_base = 'x'"])
async def test_a_journal_with_a_damaged_row_is_refused_and_released(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal"
    journal, _ = Journal.open(JournalPolicy(path), "agent123")
    journal.commit(JournalBatch([CommandEntry("c", "l", Stage.FINISHED, 0, b"")]))
    journal.close()
    database = sqlite3.connect(path)
    database.execute(f"UPDATE commands SET {damage}")
    database.commit()
    database.close()
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=r"is damaged: .*; move it away") as refused:
            async with AgentJournal.opened(JournalPolicy(path), "agent123"):
                pass
        assert refused.value.reason == "JOURNAL_UNUSABLE"


async def test_output_is_not_looked_at_all_the_time_while_the_journal_takes_none(
    disk: Disk, record: CommandRecord, writer: JournalWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    delays: list[float] = []
    held = record.start("c", "l")
    await until(lambda: not record.unwritten)
    call_later = writer._loop.call_later

    def noted(delay: float, *call: Any) -> asyncio.TimerHandle:
        delays.append(delay)
        return call_later(delay, *call)

    monkeypatch.setattr(journal_writer, "RETRY_SECONDS", 600.0)
    monkeypatch.setattr(writer._loop, "call_later", noted)
    record.journal_problem = Reason("journal_full", "nearly")
    held.window.append(command_pb2.OUTPUT_STREAM_STDOUT, b"x")
    writer.output_written("c")
    assert delays == [600.0]
