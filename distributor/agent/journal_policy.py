"""Where an agent keeps its journal, and what it does with it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Final

from distributor.errors import ConfigurationError

DEFAULT_JOURNAL_BYTES: Final = 256 * 1024 * 1024
MIN_JOURNAL_BYTES: Final = 1024 * 1024


class JournalSync(StrEnum):
    """What the journal survives."""

    PROCESS = "process"
    """The death of the agent's process. After a power failure the journal takes a new id, as if it had been lost."""
    DISK = "disk"
    """A power failure as well: each commit waits for the disk."""


class Orphans(StrEnum):
    """What to do with processes of a command that outlived the agent."""

    END = "end"
    REPORT = "report"


@dataclass(frozen=True, slots=True)
class JournalPolicy:
    """Settings of an agent's journal.

    `max_bytes` limits its size: near it, the agent refuses new commands as `journal_full`. `stop_grace` is the time in
    seconds between TERM and KILL when orphans are ended. Raises ConfigurationError for a size of less than 1 MiB.
    """

    path: Path
    max_bytes: int = DEFAULT_JOURNAL_BYTES
    sync: JournalSync = JournalSync.PROCESS
    orphans: Orphans = Orphans.END
    stop_grace: float = 5.0

    def __post_init__(self) -> None:
        if self.max_bytes < MIN_JOURNAL_BYTES:
            raise ConfigurationError(f"the journal needs at least {MIN_JOURNAL_BYTES:,} bytes, not {self.max_bytes:,}")
