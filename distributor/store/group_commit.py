"""Shares one commit among all callers that arrived before it began."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

from distributor.errors import Unavailable

Mark = TypeVar("Mark")


class GroupCommit(Generic[Mark]):
    """Commits one group of callers at a time. Callers that arrive during a commit form the next group.

    Each caller passes a mark; `commit` receives the distinct marks of its group, and raises an error if the group may
    not be durable. Groups end in order. One event loop; each task ends with its commit.
    """

    def __init__(self, commit: Callable[[frozenset[Mark]], Awaitable[None]], timeout_seconds: float) -> None:
        """`timeout_seconds` bounds each commit."""
        self._commit = commit
        self._timeout_seconds = timeout_seconds
        self._marks: set[Mark] = set()
        self._gathering: asyncio.Future[None] | None = None
        self._committing: asyncio.Future[None] | None = None
        self._running: asyncio.Task[None] | None = None

    @property
    def latest(self) -> asyncio.Future[None] | None:
        """Future of the end of the latest group; None if all groups have ended."""
        return self._gathering or self._committing

    def covered(self, mark: Mark) -> asyncio.Future[None]:
        """Join the first commit that begins after this call, and return its shared end: do not cancel it."""
        self._marks.add(mark)
        if self._gathering is None:
            self._gathering = asyncio.get_running_loop().create_future()
            # Consume the exception, so that asyncio does not warn if no caller is left.
            self._gathering.add_done_callback(asyncio.Future.exception)
        group = self._gathering
        if self._committing is None:
            self._begin(group)
        return group

    def _begin(self, group: asyncio.Future[None]) -> None:
        marks, self._marks = frozenset(self._marks), set()
        self._gathering, self._committing = None, group
        self._running = asyncio.create_task(self._run(group, marks), name="group commit")

    async def _run(self, group: asyncio.Future[None], marks: frozenset[Mark]) -> None:
        error: Exception | None = not_durable("the server stops")
        try:
            async with asyncio.timeout(self._timeout_seconds):
                await self._commit(marks)
            error = None
        except TimeoutError:
            error = not_durable(f"it took longer than {self._timeout_seconds:g} s")
        except Unavailable as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001 - each caller gets it
            error = not_durable(str(failure))
        finally:
            self._end(group, error)

    def _end(self, group: asyncio.Future[None], error: Exception | None) -> None:
        if error is None:
            group.set_result(None)
        else:
            group.set_exception(error)
        self._committing = None
        if self._gathering is not None:
            self._begin(self._gathering)


def not_durable(why: str) -> Unavailable:
    """Return the error for a change that Valkey has made but may lose."""
    return Unavailable(
        f"the change may or may not survive, as it could not be made durable: {why}",
        reason="NOT_DURABLE",
        retry_after_seconds=1.0,
    )
