"""Parses entries of the event stream."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from distributor.model.event import EventBatch, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.observability.logging import get_logger
from distributor.store.rows import StoredEventRecord

logger = get_logger()

_OF_COMMANDS: Final = "|".join(kind for kind in EventKind if kind not in (EventKind.OUTPUT, EventKind.AGENT))
_STATUSES: Final = "|".join(CommandStatus)
_READABLE: Final = re.compile(
    # Agent, type, priority, status, attempt, six receipts, time of a cancel, revision, params summary, code, message.
    rf"(?:{_OF_COMMANDS})\t[^\t]*\t[^\t]*\t[0-9]{{1,18}}\t(?:{_STATUSES})\t[0-9]{{0,18}}"
    r"(?:\t[0-9]{0,18}){8}\t[^\t]*\t[^\t]*\t.*"
    rf"|{EventKind.OUTPUT}\t[^\t]*\t[0-9]{{1,18}}"
    rf"|{EventKind.AGENT}\t[0-9]{{1,18}}\t[01]",
    re.DOTALL,
)
"""The lines that `StoredEventRecord` can decode; checked here so that decoding cannot fail later."""
_KIND: Final = re.compile(r"([a-z_]+)\t")


class EventEntries:
    """Parses entries for one reader, and logs once if some are malformed.

    Malformed events are skipped: one bad entry must not hide all later ones. Kinds of events that only a later version
    writes are skipped silently.
    """

    def __init__(self) -> None:
        self._warned = False

    def batch(self, entry_id: bytes, fields: Sequence[bytes]) -> EventBatch:
        """Parse one entry; return a batch without records if nothing in it is readable."""
        position = entry_id.decode()
        try:
            texts = [field.decode() for field in fields]
        except UnicodeDecodeError:
            texts = [""]
        # The first pair names the replica that made the change; each further pair is a subject and its line.
        if texts[0] != "origin":
            self._unreadable(position)
            return EventBatch(position, "", ())
        readable = []
        for subject, line in zip(texts[2::2], texts[3::2], strict=True):
            if _READABLE.fullmatch(line):
                readable.append(StoredEventRecord(position, subject, line))
            elif not _of_a_later_version(line):
                self._unreadable(position)
        return EventBatch(position, texts[1], readable)

    def _unreadable(self, position: str) -> None:
        if not self._warned:
            self._warned = True
            logger.warning("skipping unreadable events", first=position)


def _of_a_later_version(line: str) -> bool:
    kind = _KIND.match(line)
    return kind is not None and kind[1] not in set(EventKind)
