"""What the test side did and saw: every call and its outcome, every state, result and piece of output."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from tests.faults.campaign.ledger import now


class Kind(StrEnum):
    """What an entry of a history is about."""

    ASKED = "asked"
    """A command is about to be queued: its agent, priority and work, None if it runs no program that notes it."""
    ACKNOWLEDGED = "acknowledged"
    """The server said that it stored it: its command id."""
    UNANSWERED = "unanswered"
    """Nobody said whether it was stored."""
    REFUSED = "refused"
    """The server said that it did not store it, and why."""
    CANCEL = "cancel"
    """A cancel is about to be requested."""
    STATE = "state"
    """A state was seen; `since` is when the read that saw it began, None for a watch."""
    RESULT = "result"
    """A result was seen."""
    UNREADABLE = "unreadable"
    """A read was answered, but not with what should be there."""
    OUTPUT = "output"
    """A piece of output was seen by `reader`: its offset, size and digest."""
    GAP = "gap"
    """A reader was told that output from `offset` to `end` is lost."""
    READER_ENDED = "reader_ended"
    """A reader of the output has seen all that there will be."""
    FAULT = "fault"
    """A fault begins."""
    HEALED = "healed"
    """A fault has ended."""
    COMPLAINT = "complaint"
    """The server or agent `token` logged something that its log must not have: the sign of it, and the text."""
    AGENT_DIED = "agent_died"
    """The process of the agent `token` was killed, or its journal lost."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened. `token` names the command, as its caller does; or the agent, server or fault."""

    time: float
    kind: Kind
    token: str
    details: Mapping[str, Any]

    def line(self) -> str:
        """Itself as a line of JSON."""
        return json.dumps({"time": round(self.time, 3), "kind": self.kind, "token": self.token, **self.details})


class History:
    """Appends entries to a file and keeps them."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.entries: list[Entry] = []
        self._file = path.open("a", encoding="utf-8", buffering=1)

    def note(self, kind: Kind, token: str, **details: Any) -> Entry:
        """Note what happens now."""
        entry = Entry(now(), kind, token, details)
        self.entries.append(entry)
        self._file.write(entry.line() + "\n")
        return entry

    def note_output(self, token: str, reader: str, offset: int, data: bytes) -> None:
        """Note a piece of output."""
        self.note(Kind.OUTPUT, token, reader=reader, offset=offset, size=len(data), digest=digest(data))

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def digest(data: bytes) -> str:
    """A short name for `data`: a history of floods would else be as long as they are."""
    return hashlib.blake2b(data, digest_size=12).hexdigest()


def about(entries: Iterable[Entry], token: str) -> list[Entry]:
    """The entries that name `token`."""
    return [entry for entry in entries if entry.token == token]
