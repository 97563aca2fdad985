"""The journal as a file: what it keeps, refuses, and says."""

from __future__ import annotations

import errno
import io
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

from distributor.agent import journal as journals
from distributor.agent.journal import JOURNAL_FULL, NEARLY_FULL, Journal, JournalError
from distributor.agent.journal_entries import CommandEntry, JournalBatch, OutputEntry, ProcessMark, Stage
from distributor.agent.journal_policy import MIN_JOURNAL_BYTES, JournalPolicy, JournalSync
from distributor.errors import ConfigurationError

RECEIVED = CommandEntry("a", "lease", Stage.RECEIVED)
STARTED = RECEIVED._replace(stage=Stage.STARTED, process=ProcessMark(17, 4711))
FINISHED = CommandEntry("b", "lease-b", Stage.FINISHED, 7, b"result")
ENDED = CommandEntry("c", "lease-c", Stage.ENDED, may_run_again=True)


@pytest.fixture
def policy(tmp_path: Path) -> JournalPolicy:
    return JournalPolicy(tmp_path / "state" / "a.journal")


def committed(policy: JournalPolicy, *batches: JournalBatch) -> None:
    journal, _ = Journal.open(policy, "agent123")
    for batch in batches:
        journal.commit(batch)
    journal.close()


def test_keeps_the_latest_entry_of_each_command_in_the_order_received(policy: JournalPolicy) -> None:
    committed(policy, JournalBatch([RECEIVED]), JournalBatch([FINISHED]), JournalBatch([ENDED, STARTED]))
    _, contents = Journal.open(policy, "agent123")
    assert contents.commands == [STARTED, FINISHED, ENDED]
    assert contents.same_boot


def test_keeps_output_until_it_is_trimmed_or_its_command_forgotten(policy: JournalPolicy) -> None:
    pieces = [OutputEntry("a", 0, 1, b"one"), OutputEntry("a", 3, 2, b"two"), OutputEntry("b", 0, 1, b"gone")]
    committed(
        policy,
        JournalBatch([STARTED, FINISHED], output=pieces),
        JournalBatch(trimmed=[("a", 3)], forgotten=["b"]),
    )
    _, contents = Journal.open(policy, "agent123")
    assert (contents.commands, contents.output) == ([STARTED], [pieces[1]])


def test_many_commands_in_one_commit(policy: JournalPolicy) -> None:
    many = [CommandEntry(str(number), "lease", Stage.RECEIVED) for number in range(1_001)]
    committed(policy, JournalBatch(many), JournalBatch(forgotten=[entry.command_id for entry in many[1:]]))
    assert Journal.open(policy, "agent123")[1].commands == many[:1]


def test_survives_the_death_of_its_process(policy: JournalPolicy) -> None:
    program = f"""
import os, signal
from pathlib import Path
from distributor.agent.journal import Journal
from distributor.agent.journal_entries import *
from distributor.agent.journal_policy import JournalPolicy
journal, contents = Journal.open(JournalPolicy(Path({str(policy.path)!r})), "agent123")
journal.commit(JournalBatch([CommandEntry("a", "lease", Stage.RECEIVED)]))
print(contents.journal_id, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    died = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    _, contents = Journal.open(policy, "agent123")
    assert (died.returncode, died.stdout.strip()) == (-9, contents.journal_id)
    assert contents.commands == [RECEIVED]


def test_only_its_owner_can_read_it(policy: JournalPolicy) -> None:
    committed(policy, JournalBatch([RECEIVED]))
    assert policy.path.stat().st_mode & 0o777 == 0o600
    assert policy.path.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("years", [-50, 50])
def test_a_clock_that_jumps_forgets_no_command(
    policy: JournalPolicy, monkeypatch: pytest.MonkeyPatch, years: int
) -> None:
    """Ended commands are needed to refuse duplicates; their number is bounded, not their age."""
    committed(policy, JournalBatch([STARTED, ENDED]))
    jumped = time.time() + years * 365 * 86_400
    monkeypatch.setattr(time, "time", lambda: jumped)
    committed(policy, JournalBatch([FINISHED]))
    monkeypatch.undo()
    assert Journal.open(policy, "agent123")[1].commands == [STARTED, ENDED, FINISHED]


# The id


def test_the_id_stays_the_same_until_the_file_is_lost(policy: JournalPolicy) -> None:
    journal, first = Journal.open(policy, "agent123")
    journal.close()
    journal, second = Journal.open(policy, "agent123")
    journal.close()
    policy.path.unlink()
    _, third = Journal.open(policy, "agent123")
    assert first.journal_id == second.journal_id != third.journal_id


@pytest.mark.parametrize(
    ("sync", "closed", "kept"),
    [(JournalSync.PROCESS, False, False), (JournalSync.PROCESS, True, True), (JournalSync.DISK, False, True)],
)
def test_a_power_failure_that_may_have_lost_entries_gives_a_new_id(
    policy: JournalPolicy, monkeypatch: pytest.MonkeyPatch, sync: JournalSync, closed: bool, kept: bool
) -> None:
    policy = JournalPolicy(policy.path, sync=sync)
    monkeypatch.setattr(journals, "_boot_id", lambda: "first")
    journal, before = Journal.open(policy, "agent123")
    if closed:
        journal.close()
    else:
        journal._database.close()
    monkeypatch.setattr(journals, "_boot_id", lambda: "second")
    _, after = Journal.open(policy, "agent123")
    assert (before.journal_id == after.journal_id, after.same_boot) == (kept, False)


# What cannot be opened


def test_a_second_agent_process_is_refused(policy: JournalPolicy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journals, "_LOCK_PATIENCE_SECONDS", 0.0)
    journal, _ = Journal.open(policy, "agent123")
    with pytest.raises(ConfigurationError, match="is in use by another agent process; give each agent"):
        Journal.open(policy, "agent123")
    program = f"""
from pathlib import Path
from distributor.agent.journal import Journal
from distributor.agent.journal_policy import JournalPolicy
Journal.open(JournalPolicy(Path({str(policy.path)!r})), "agent123")
"""
    refused = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert "is in use by another agent process" in refused.stderr
    journal.close()


def test_the_journal_of_another_agent_is_refused(policy: JournalPolicy) -> None:
    committed(policy)
    with pytest.raises(ConfigurationError, match="belongs to the agent agent123; give each agent a journal"):
        Journal.open(policy, "other")


@pytest.mark.parametrize("damage", [b"no database at all" * 400, None])
def test_a_damaged_journal_is_never_replaced(policy: JournalPolicy, damage: bytes | None) -> None:
    committed(policy, JournalBatch([CommandEntry(str(n), "lease", Stage.RECEIVED) for n in range(500)]))
    content = policy.path.read_bytes()
    damaged = damage if damage is not None else content[:12_288] + os.urandom(len(content) - 12_288)
    policy.path.write_bytes(damaged)
    with pytest.raises(ConfigurationError, match="is damaged: .*; move it away to begin a new one"):
        Journal.open(policy, "agent123")
    assert policy.path.read_bytes() == damaged


def test_a_database_of_another_program_is_refused(policy: JournalPolicy) -> None:
    policy.path.parent.mkdir()
    database = sqlite3.connect(policy.path)
    database.execute("CREATE TABLE notes (note TEXT)")
    database.close()
    with pytest.raises(ConfigurationError, match="is another program's database"):
        Journal.open(policy, "agent123")


def test_a_journal_of_a_later_version_is_refused(policy: JournalPolicy) -> None:
    committed(policy)
    database = sqlite3.connect(policy.path)
    database.execute("PRAGMA user_version = 9")
    database.close()
    with pytest.raises(ConfigurationError, match="has version 9, this agent reads version 3"):
        Journal.open(policy, "agent123")


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="/file/a.journal cannot be opened: File exists"):
        Journal.open(JournalPolicy(tmp_path / "file" / "a.journal"), "agent123")


# A disk that takes nothing


ON_A_FULL_DISK = """
import resource, signal
from pathlib import Path
from distributor.agent.journal import Journal, JournalError
from distributor.agent.journal_entries import JournalBatch
from distributor.agent.journal_policy import JournalPolicy

path = Path({path!r})
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
journal, contents = Journal.open(JournalPolicy(path), "agent123")
print(len(contents.commands), contents.problem.code, contents.journal_id)
try:
    journal.commit(JournalBatch())
except JournalError as error:
    print(error.reason.code)
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.commit(JournalBatch())
print(dict(journal._rows("SELECT name, value FROM journal"))["closed"])
"""


@pytest.mark.parametrize("killed", [True, False])
def test_a_journal_whose_disk_takes_nothing_is_opened_and_noted_as_open_with_the_first_commit(
    policy: JournalPolicy, killed: bool
) -> None:
    journal, before = Journal.open(policy, "agent123")
    journal.commit(JournalBatch([FINISHED]))
    left = policy.path.with_name("left.journal")
    if not killed:
        journal.close()
    for end in ("", "-wal") if killed else ("",):
        # What a process leaves that is killed now.
        shutil.copy(f"{policy.path}{end}", f"{left}{end}")
    program = ON_A_FULL_DISK.format(path=str(left))
    opened = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert opened.stdout.split("\n")[:3] == [f"1 journal_failed {before.journal_id}", "journal_failed", "0"], (
        opened.stderr
    )


@pytest.mark.parametrize(
    ("fault", "probe", "code"),
    [
        (sqlite3.SQLITE_FULL, None, "journal_full"),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EDQUOT, "journal_full"),
        (sqlite3.SQLITE_IOERR_WRITE, errno.ENOSPC, "journal_full"),
        (sqlite3.SQLITE_IOERR_WRITE, errno.EIO, "journal_failed"),
        (sqlite3.SQLITE_IOERR_WRITE, None, "journal_failed"),
        (sqlite3.SQLITE_IOERR_FSYNC, None, "journal_failed"),
        (sqlite3.SQLITE_READONLY, None, "journal_failed"),
    ],
)
def test_a_full_disk_is_told_from_one_that_fails(
    policy: JournalPolicy, monkeypatch: pytest.MonkeyPatch, fault: int, probe: int | None, code: str
) -> None:
    journal, _ = Journal.open(policy, "agent123")
    error = sqlite3.OperationalError("it cannot")
    error.sqlite_errorcode = fault

    def execute(statement: str, values: object = ()) -> None:
        raise error

    def temporary_file(**_: object) -> io.BytesIO:
        if probe is None:
            return io.BytesIO()
        raise OSError(probe, os.strerror(probe))

    monkeypatch.setattr(journal, "_execute", execute)
    monkeypatch.setattr(tempfile, "TemporaryFile", temporary_file)
    with pytest.raises(JournalError) as caught:
        journal.commit(JournalBatch([RECEIVED]))
    assert caught.value.reason.code == code


# Its bound


def test_a_commit_beyond_the_bound_changes_nothing_and_one_that_makes_room_succeeds(policy: JournalPolicy) -> None:
    journal, _ = Journal.open(JournalPolicy(policy.path, MIN_JOURNAL_BYTES), "agent123")
    large = [CommandEntry(str(n), "lease", Stage.FINISHED, 0, bytes(100_000)) for n in range(10)]
    journal.commit(JournalBatch(large))
    fill = journal.fill
    with pytest.raises(JournalError, match="cannot be written: database or disk is full") as caught:
        journal.commit(JournalBatch([RECEIVED, FINISHED._replace(result=bytes(400_000))]))
    assert caught.value.reason.code == JOURNAL_FULL
    journal.commit(JournalBatch([FINISHED._replace(result=bytes(400_000))], forgotten=[e.command_id for e in large]))
    assert 0.3 < journal.fill < 0.5 < NEARLY_FULL < fill < 1
    journal.close()
    assert [entry.command_id for entry in Journal.open(policy, "agent123")[1].commands] == ["b"]


def test_a_bound_that_is_too_small_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="needs at least 1,048,576 bytes, not 1,000"):
        JournalPolicy(tmp_path / "a", 1_000)
