"""Cursors of lists of commands: after which command a list continues, and of which query it is."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import zlib
from typing import Final, NamedTuple

from distributor.errors import InvalidArgument
from distributor.model.listing import CommandFilter


class Place(NamedTuple):
    """A place in a list of commands, newest first: `arrival` in microseconds, and the id among those of the same."""

    arrival: int
    command_id: str


class ListCursor(NamedTuple):
    """What a list has come to; `None` before its beginning."""

    place: Place | None = None

    @property
    def arguments(self) -> tuple[str, str]:
        """Arrival and id as the function `list_commands` takes them."""
        return (str(self.place.arrival), self.place.command_id) if self.place is not None else ("", "")


BEGINNING: Final = ListCursor()


def write_cursor(place: Place, query: CommandFilter) -> str:
    """The cursor that continues after a place."""
    text = f"{place.arrival} {place.command_id} {_digest(query)}"
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def read_cursor(cursor: str, query: CommandFilter) -> ListCursor:
    """Parse a cursor, "" for the beginning. Raises InvalidArgument for what is none, or is one of another query."""
    if not cursor:
        return BEGINNING
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode("ascii")
        arrival, command_id, digest = text.split(" ")
        if not arrival.isdigit() or digest != _digest(query):
            raise ValueError("not a cursor, or a cursor of another query")
        return ListCursor(Place(int(arrival), command_id))
    except (binascii.Error, UnicodeError, ValueError) as error:
        raise InvalidArgument(
            "page_token was not issued by a list call",
            field="page_token",
            reason="INVALID_PAGE_TOKEN",
        ) from error


def _digest(query: CommandFilter) -> str:
    """Identify a query: a cursor continues only the query that it came from (AIP-158).

    Times are excluded: a request for the last two hours has slightly later times on each page.
    """
    timeless = dataclasses.replace(query, queued_after_ms=None, queued_before_ms=None)
    return f"{zlib.crc32(repr(timeless).encode()):08x}"
