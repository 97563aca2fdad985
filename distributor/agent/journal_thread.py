"""Runs a journal in a thread of its own, so that a slow disk never delays the connection."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from distributor.agent.journal import JOURNAL_FAILED, Journal, JournalError
from distributor.agent.journal_entries import JournalBatch, JournalContents
from distributor.agent.journal_policy import JournalPolicy
from distributor.agent.loop_mailbox import LoopMailbox
from distributor.model.command import Reason

Work = Callable[[], object]


class JournalThread:
    """Opens, writes and closes one journal. Its methods belong to one event loop.

    The thread is a daemon: a disk that hangs does not keep the process alive.
    """

    def __init__(self) -> None:
        self._work: SimpleQueue[Work | None] = SimpleQueue()
        self._journal: Journal | None = None
        self._home: LoopMailbox | None = None

    @property
    def fill(self) -> float:
        """How much of its bound the journal uses, 0 to 1."""
        return self._journal.fill if self._journal else 0.0

    async def open(self, policy: JournalPolicy, agent_id: str) -> JournalContents:
        """Open the journal. Raises ConfigurationError as `Journal.open` does."""
        loop = asyncio.get_running_loop()
        self._home = home = LoopMailbox(loop)
        threading.Thread(target=self._run, name="agent journal", daemon=True).start()
        opened: asyncio.Future[JournalContents] = loop.create_future()

        def work() -> None:
            try:
                self._journal, contents = Journal.open(policy, agent_id)
            except Exception as error:  # noqa: BLE001  # the future raises it
                home.post(partial(_fail, opened, error))
            else:
                home.post(partial(_succeed, opened, contents))

        self._work.put(work)
        try:
            return await opened
        except BaseException:
            self._work.put(None)
            raise

    def commit(self, batch: JournalBatch, done: Callable[[JournalError | None], None]) -> None:
        """Commit `batch`, then call `done` on the loop, with the error if there was one."""
        self._work.put(partial(self._commit, batch, done))

    async def close(self, within: float) -> bool:
        """Close the journal after all commits; return False if the disk takes more than `within` seconds."""
        home, closed = self._home, asyncio.get_running_loop().create_future()
        assert home is not None

        def work() -> None:
            if self._journal:
                self._journal.close()
            home.post(partial(_succeed, closed, None))

        self._work.put(work)
        self._work.put(None)
        try:
            async with asyncio.timeout(within):
                await closed
        except TimeoutError:
            return False
        return True

    def _commit(self, batch: JournalBatch, done: Callable[[JournalError | None], None]) -> None:
        assert self._journal is not None
        assert self._home is not None
        error = None
        try:
            self._journal.commit(batch)
        except JournalError as failure:
            error = failure
        except Exception as failure:  # noqa: BLE001  # reported as the failure of the commit
            # The thread must go on: the next commit may succeed.
            error = JournalError(Reason(JOURNAL_FAILED, f"the journal cannot be written: {failure!r}"))
        self._home.post(partial(done, error))

    def _run(self) -> None:
        while work := self._work.get():
            work()


def _succeed(future: asyncio.Future[Any], value: object) -> None:
    if not future.done():
        future.set_result(value)


def _fail(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)
