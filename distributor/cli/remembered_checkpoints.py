"""Reads the checkpoints of audit trails that an agent remembers, also while it runs."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from pathlib import Path

from distributor.agent.journal import CHECKPOINTS, checkpoints_of
from distributor.errors import ConfigurationError


def remembered_checkpoints(journal: Path) -> list[str]:
    """The checkpoints in a journal, the newest last. Raises ConfigurationError if it cannot be read.

    Reads a copy: a running agent has locked its journal.
    """
    if not journal.exists():
        raise ConfigurationError(f"there is no journal {journal}", field="journal", reason="JOURNAL_UNUSABLE")
    try:
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "journal"
            for suffix in ("", "-wal"):
                if (source := journal.with_name(journal.name + suffix)).exists():
                    shutil.copyfile(source, copy.with_name(copy.name + suffix))
            database = sqlite3.connect(copy)
            try:
                row = database.execute("SELECT value FROM journal WHERE name = ?", (CHECKPOINTS,)).fetchone()
            finally:
                database.close()
        return checkpoints_of(row[0] if row else "")
    except (sqlite3.Error, OSError, ValueError) as error:
        raise ConfigurationError(
            f"cannot read the journal {journal}: {error}", field="journal", reason="JOURNAL_UNUSABLE"
        ) from error
