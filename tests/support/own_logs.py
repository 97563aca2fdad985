"""The log lines of one test only, without those of servers shared between tests."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import structlog
from structlog.testing import capture_logs
from structlog.typing import EventDict

_own: ContextVar[bool] = ContextVar("own", default=False)
"""Tasks take it over from whoever started them."""


@contextmanager
def own_logs() -> Iterator[list[EventDict]]:
    """Keeps what is logged by the caller meanwhile, and by the tasks that it starts."""
    token = _own.set(True)
    try:
        with capture_logs(processors=[_own_only]) as logs:
            yield logs
    finally:
        _own.reset(token)


def _own_only(logger: object, method: str, event: EventDict) -> EventDict:
    if not _own.get():
        raise structlog.DropEvent
    return event
