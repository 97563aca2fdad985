"""Adds the command that logs in to errors of authentication."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from distributor.errors import Unauthenticated

if TYPE_CHECKING:
    from distributor.settings.caller_settings import CallerSettings


@contextmanager
def login_hint(caller: CallerSettings, note: str = "") -> Iterator[None]:
    """Raise Unauthenticated again with a note and the command that logs in to this caller's server."""
    try:
        yield
    except Unauthenticated as error:
        message = "; ".join(filter(None, [error.message, note, f"log in with: {login_command(caller)}"]))
        raise Unauthenticated(message, reason=error.reason, field=error.field) from error


def login_command(caller: CallerSettings) -> str:
    """The command that logs in again."""
    if caller.context is not None:
        return f"command-sender login --context {caller.context.name}"
    return f"command-sender login --server {caller.settings.server}"
