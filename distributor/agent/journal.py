"""The agent's durable record of its commands: an SQLite database that survives the agent's process.

Written in WAL mode: a commit is one write to the operating system, which outlives the process. With `sync = process`
nothing waits for the disk, so a power failure may lose the latest commits. The journal then takes a new id when it is
opened next, which tells the server that the record is not complete.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import sqlite3
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, Final, Self

from distributor.agent.journal_entries import (
    CommandEntry,
    JournalBatch,
    JournalContents,
    OutputEntry,
    ProcessMark,
    SeenSignature,
    Stage,
)
from distributor.agent.journal_policy import JournalPolicy, JournalSync
from distributor.errors import ConfigurationError
from distributor.model.command import Reason

NEARLY_FULL: Final = 0.9
"""Use of its bound at which a journal is not to take more commands, so that those that run can still be recorded."""

JOURNAL_FULL: Final = "journal_full"
JOURNAL_FAILED: Final = "journal_failed"
JOURNAL_SLOW: Final = "journal_slow"

CHECKPOINTS: Final = "checkpoints"
"""Name of the value with remembered checkpoints of audit trails, a list in JSON."""

_APPLICATION_ID: Final = 0x64697374
_VERSION: Final = 3
_LOCK_PATIENCE_SECONDS: Final = 1.0
"""A killed agent releases its lock a moment after a supervisor has started the next."""
_WAL_BYTES: Final = 4 * 1024 * 1024
_ROWS_AT_ONCE: Final = 100
_ROW_BYTES: Final = 256
"""A generous size of a row without its result or data."""
_MEASURED_PARTS: Final = 64
"""The size is measured whenever this part of the bound was written."""
_PROBE_BYTES: Final = 4096
_UNREADABLE: Final = (ValueError, TypeError)
_NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT)

_SCHEMA: Final = """
CREATE TABLE journal (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE commands (
  command_id TEXT PRIMARY KEY, lease_id TEXT NOT NULL, stage INTEGER NOT NULL, output_base INTEGER NOT NULL,
  result BLOB, may_run_again INTEGER NOT NULL, run TEXT NOT NULL, pgid INTEGER, leader_started INTEGER,
  changed INTEGER NOT NULL
);
CREATE TABLE output (
  command_id TEXT NOT NULL, offset INTEGER NOT NULL, stream INTEGER NOT NULL, data BLOB NOT NULL,
  PRIMARY KEY (command_id, offset)
);
CREATE TABLE signatures (
  key_id TEXT NOT NULL, signature_id TEXT NOT NULL, command_id TEXT NOT NULL, expires_ms INTEGER NOT NULL,
  PRIMARY KEY (key_id, signature_id)
) WITHOUT ROWID;
"""
_COLUMNS: Final = (
    "command_id",
    "lease_id",
    "stage",
    "output_base",
    "result",
    "may_run_again",
    "run",
    "pgid",
    "leader_started",
    "changed",
)


class JournalError(Exception):
    """A commit failed and changed nothing. `reason` says why; the same commit may succeed later."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(reason.message)
        self.reason = reason


class Journal:
    """An open journal. One thread opens it, uses it and closes it; no other process can open it meanwhile."""

    def __init__(self, policy: JournalPolicy, database: sqlite3.Connection) -> None:
        self._policy = policy
        self._database = database
        self._page_bytes: int = self._value("PRAGMA page_size")
        self._committed_bytes = 0
        """Since the journal was last measured."""
        self.fill = 0.0
        """How much of its bound it used when it was last measured, 0 to 1."""
        self._opening: dict[str, str] = {}
        """What notes that the journal is open; empty once it is written."""
        self._execute(f"PRAGMA max_page_count = {policy.max_bytes // self._page_bytes}")

    @classmethod
    def open(cls, policy: JournalPolicy, agent_id: str) -> tuple[Self, JournalContents]:
        """Open the journal, and create it if there is none; return what it holds.

        A journal whose disk takes nothing is opened, and its contents name the problem: what it holds can be reported.
        Raises ConfigurationError if it is in use, damaged, of another agent, or cannot be opened.
        """
        path = policy.path
        with _explained(path):
            _create(path)
            database = sqlite3.connect(path, timeout=_LOCK_PATIENCE_SECONDS, isolation_level=None)
            try:
                _prepare(database, path)
                journal = cls(policy, database)
                return journal, journal._begin(agent_id)
            except BaseException:
                database.close()
                raise

    def commit(self, batch: JournalBatch) -> None:
        """Apply all changes of `batch`, or none; an empty one tries whether the journal can be written.

        Raises JournalError.
        """
        try:
            if self._opening:
                self._note_opened()
            statements = list(_statements(batch))
            if len(statements) == 1:
                # Its own transaction: each step of SQLite costs a release of the interpreter lock.
                self._execute(*statements[0])
            else:
                self._execute("BEGIN IMMEDIATE")
                for statement, values in statements:
                    self._execute(statement, values)
                self._execute("COMMIT")
            self._measure(batch)
        except Exception as error:
            self._roll_back()
            raise JournalError(self._reason(error)) from error

    def _roll_back(self) -> None:
        with suppress(sqlite3.Error):
            if self._database.in_transaction:
                self._execute("ROLLBACK")

    def _measure(self, batch: JournalBatch) -> None:
        """Measure now and then, or after each commit while it is nearly full."""
        self._committed_bytes += sum(_ROW_BYTES + _result_bytes(entry) for entry in batch.commands)
        self._committed_bytes += sum(_ROW_BYTES + len(piece.data) for piece in batch.output)
        self._committed_bytes += _ROW_BYTES * len(batch.signatures)
        if self.fill >= NEARLY_FULL or self._committed_bytes * _MEASURED_PARTS >= self._policy.max_bytes:
            pages = self._value("PRAGMA page_count") - self._value("PRAGMA freelist_count")
            self.fill = pages * self._page_bytes / self._policy.max_bytes
            self._committed_bytes = 0

    def close(self) -> None:
        """Write everything to the disk and close. Errors are ignored: the journal then counts as not closed."""
        with suppress(sqlite3.Error):
            self._execute("PRAGMA synchronous = FULL")
            self._set("closed", "1")
            self._execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._database.close()

    def _begin(self, agent_id: str) -> JournalContents:
        path, known = self._policy.path, dict(self._rows("SELECT name, value FROM journal"))
        owner = known.get("agent_id", agent_id)
        if owner != agent_id:
            raise _unusable(path, f"belongs to the agent {owner}", "give each agent a journal of its own")
        boot_id = _boot_id()
        same_boot = known.get("boot_id", boot_id) == boot_id
        complete = same_boot or known.get("closed") == "1" or known.get("sync") == JournalSync.DISK
        journal_id = known.get("journal_id", "") if complete else ""
        journal_id = journal_id or secrets.token_hex(16)
        self._opening = {
            "agent_id": agent_id,
            "journal_id": journal_id,
            "boot_id": boot_id,
            "sync": self._policy.sync,
            "closed": "0",
        }
        problem = None
        try:
            self._note_opened()
        except sqlite3.Error as error:
            if _primary(error) not in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR):
                raise
            self._roll_back()
            problem = self._reason(error)
        halt = tuple(str(part) for part in json.loads(known.get("halt", "[]")))
        checkpoints = checkpoints_of(known.get(CHECKPOINTS, ""))
        return JournalContents(
            journal_id, self._commands(), self._output(), same_boot, problem, self._signatures(), halt, checkpoints
        )

    def _note_opened(self) -> None:
        """Note that the journal is open, on the disk, so that a power failure from here on is noticed."""
        self._execute("PRAGMA synchronous = FULL")
        self._execute("BEGIN IMMEDIATE")
        for name, value in self._opening.items():
            self._set(name, value)
        kept = "SELECT command_id FROM commands WHERE stage <> ?"
        self._execute(f"DELETE FROM output WHERE command_id NOT IN ({kept})", (Stage.ENDED,))
        self._execute("COMMIT")
        if self._policy.sync is JournalSync.PROCESS:
            self._execute("PRAGMA synchronous = NORMAL")
        self._opening = {}

    def _commands(self) -> list[CommandEntry]:
        rows = self._rows(f"SELECT {', '.join(_COLUMNS)} FROM commands ORDER BY rowid")
        return [
            CommandEntry(
                command_id,
                lease_id,
                Stage(stage),
                output_base,
                result,
                bool(may_run_again),
                run,
                None if pgid is None else ProcessMark(pgid, leader_started),
            )
            for command_id, lease_id, stage, output_base, result, may_run_again, run, pgid, leader_started, _ in rows
        ]

    def _output(self) -> list[OutputEntry]:
        rows = self._rows("SELECT command_id, offset, stream, data FROM output ORDER BY command_id, offset")
        return [OutputEntry(*row) for row in rows]

    def _signatures(self) -> list[SeenSignature]:
        rows = self._rows("SELECT key_id, signature_id, command_id, expires_ms FROM signatures")
        return [SeenSignature(*row) for row in rows if row[3] > time.time() * 1_000]

    def _set(self, name: str, value: str) -> None:
        self._execute("INSERT OR REPLACE INTO journal (name, value) VALUES (?, ?)", (name, value))

    def _execute(self, statement: str, values: Sequence[object] = ()) -> None:
        self._database.execute(statement, values)

    def _rows(self, statement: str) -> list[Any]:
        return self._database.execute(statement).fetchall()

    def _value(self, statement: str) -> Any:
        return self._database.execute(statement).fetchone()[0]

    def _reason(self, error: Exception) -> Reason:
        text = f"the journal {self._policy.path} cannot be written: {error}"
        if _primary(error) == sqlite3.SQLITE_FULL:
            return Reason(JOURNAL_FULL, text)
        if _primary(error) == sqlite3.SQLITE_IOERR and _no_room(self._policy.path):
            return Reason(JOURNAL_FULL, f"{text}, as its disk or the quota is full")
        return Reason(JOURNAL_FAILED, text)


def checkpoints_of(value: str) -> list[str]:
    """Decode the value CHECKPOINTS. Raises ValueError."""
    found = json.loads(value) if value else []
    if not isinstance(found, list) or not all(isinstance(one, str) for one in found):
        raise ValueError("the checkpoints are not a list of texts")
    return found


def _statements(batch: JournalBatch) -> Iterator[tuple[str, list[object]]]:
    """The statements of a commit, what makes room first. One statement writes many rows."""
    if batch.empty:
        yield "INSERT OR REPLACE INTO journal (name, value) VALUES ('probe', '')", []
    for names in _parts(batch.forgotten):
        some = f"({','.join('?' * len(names))})"
        yield f"DELETE FROM commands WHERE command_id IN {some}", list(names)
        yield f"DELETE FROM output WHERE command_id IN {some}", list(names)
    for command_id, offset in batch.trimmed:
        yield "DELETE FROM output WHERE command_id = ? AND offset + length(data) <= ?", [command_id, offset]
    for key in batch.unsigned:
        yield "DELETE FROM signatures WHERE key_id = ? AND signature_id = ?", list(key)
    if batch.signatures:
        yield "DELETE FROM signatures WHERE expires_ms <= ?", [int(time.time() * 1_000)]
    for signatures in _parts(batch.signatures):
        rows = ",".join(["(?,?,?,?)"] * len(signatures))
        values = [value for signature in signatures for value in signature]
        yield f"INSERT OR REPLACE INTO signatures (key_id, signature_id, command_id, expires_ms) VALUES {rows}", values
    changed = {"halt": batch.halt, CHECKPOINTS: batch.checkpoints}
    for named in [name for name, value in changed.items() if value is not None]:
        yield "INSERT OR REPLACE INTO journal (name, value) VALUES (?, ?)", [named, json.dumps(changed[named])]
    now = int(time.time())
    for entries in _parts(sorted(batch.commands, key=_result_bytes)):
        yield _upsert(len(entries)), [value for entry in entries for value in _row(entry, now)]
    for pieces in _parts(batch.output):
        rows = ",".join(["(?,?,?,?)"] * len(pieces))
        values = [value for piece in pieces for value in piece]
        yield f"INSERT OR REPLACE INTO output (command_id, offset, stream, data) VALUES {rows}", values


@cache
def _upsert(rows: int) -> str:
    row = f"({','.join('?' * len(_COLUMNS))})"
    changes = ", ".join(f"{name} = excluded.{name}" for name in _COLUMNS[1:])
    return (
        f"INSERT INTO commands ({', '.join(_COLUMNS)}) VALUES {','.join([row] * rows)}"
        f" ON CONFLICT (command_id) DO UPDATE SET {changes}"
    )


def _row(entry: CommandEntry, now: int) -> tuple[object, ...]:
    pgid, leader_started = entry.process or (None, None)
    return (*entry[:-1], pgid, leader_started, now)


def _result_bytes(entry: CommandEntry) -> int:
    return len(entry.result or b"")


def _parts(items: Iterable[Any]) -> Iterator[list[Any]]:
    rest = iter(items)
    while part := list(islice(rest, _ROWS_AT_ONCE)):
        yield part


def _create(path: Path) -> None:
    """Create an empty file that only its owner can read: results and output may contain secrets."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _prepare(database: sqlite3.Connection, path: Path) -> None:
    """Lock the database, check it, and create the tables of a new one."""
    database.execute("PRAGMA locking_mode = EXCLUSIVE")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute(f"PRAGMA journal_size_limit = {_WAL_BYTES}")
    # From here on no other process gets a lock.
    database.execute("BEGIN IMMEDIATE")
    application_id, version, tables = (
        database.execute(query).fetchone()[0]
        for query in ("PRAGMA application_id", "PRAGMA user_version", "SELECT count(*) FROM sqlite_schema")
    )
    if not tables:
        for statement in _SCHEMA.split(";"):
            database.execute(statement)
        database.execute(f"PRAGMA application_id = {_APPLICATION_ID}")
        database.execute(f"PRAGMA user_version = {_VERSION}")
    elif application_id != _APPLICATION_ID:
        raise _unusable(path, "is another program's database", "name another file")
    elif version != _VERSION:
        raise _unusable(path, f"has version {version}, this agent reads version {_VERSION}", _MOVE_IT_AWAY)
    database.execute("COMMIT")
    (finding,) = database.execute("PRAGMA quick_check(1)").fetchone()
    if finding != "ok":
        raise _unusable(path, f"is damaged: {finding.splitlines()[-1]}", _MOVE_IT_AWAY)


_MOVE_IT_AWAY: Final = (
    "move it away to begin a new one; commands that were running then end as outcome_unknown, and results in it that "
    "the server has not acknowledged are lost"
)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        match _primary(error):
            case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                raise _unusable(
                    path, "is in use by another agent process", "give each agent a journal of its own"
                ) from error
            case sqlite3.SQLITE_NOTADB | sqlite3.SQLITE_CORRUPT:
                raise _unusable(path, f"is damaged: {error}", _MOVE_IT_AWAY) from error
            case _:
                raise _unusable(path, f"cannot be opened: {error}", "name another file, or make room") from error
    except _UNREADABLE as error:
        raise damaged(path, error) from error
    except OSError as error:
        raise _unusable(path, f"cannot be opened: {error.strerror}", "name another file") from error


def _primary(error: Exception) -> int:
    """SQLite's code of an error without its details; 0 for an error of another kind."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF


def _no_room(path: Path) -> bool:
    """Whether the disk, or the user's quota of it, is full: SQLite takes the latter for a fault."""
    try:
        with tempfile.TemporaryFile(dir=path.parent) as probe:
            probe.write(bytes(_PROBE_BYTES))
    except OSError as error:
        return error.errno in _NO_ROOM
    return False


def damaged(path: Path, error: Exception) -> ConfigurationError:
    """The error for a journal with a row that cannot be read."""
    return _unusable(path, f"is damaged: {error}", _MOVE_IT_AWAY)


def _unusable(path: Path, why: str, what_to_do: str) -> ConfigurationError:
    return ConfigurationError(f"the journal {path} {why}; {what_to_do}", reason="JOURNAL_UNUSABLE")


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
