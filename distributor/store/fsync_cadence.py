"""Fsyncs the embedded Valkey's data once a second, as Valkey itself does with `everysec`."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final

from distributor.errors import DistributorError
from distributor.observability.outage import Outage
from distributor.store.append_only_files import AppendOnlyFiles, Unsynced

INTERVAL_SECONDS: Final = 1.0
SECONDS_BETWEEN_REWRITES: Final = 10.0

SyncObserver = Callable[[float, OSError | None], None]
"""Receives the duration of each sync in seconds, and the error that it failed with."""


class FsyncCadence:
    """Fsyncs in a thread, so that neither Valkey nor the event loop waits for the disk.

    Unlike Valkey's own fsyncs, these never make Valkey answer before it has written. After a failure, a rewrite of the
    append-only file is requested, the only remedy. Runs from `start` to `stop`, and may be started again.
    """

    def __init__(self, files: AppendOnlyFiles, rewrite: Callable[[], Awaitable[None]], observe: SyncObserver) -> None:
        """`rewrite` starts a rewrite. It may raise a DistributorError, which is ignored."""
        self.interval_seconds = INTERVAL_SECONDS
        self._files = files
        self._rewrite = rewrite
        self._observe = observe
        self._outage = Outage("write the data of Valkey through to the disk")
        self._executor: ThreadPoolExecutor | None = None
        self._running: asyncio.Task[None] | None = None
        self._next_rewrite = 0.0

    def start(self) -> None:
        """Begin. Does nothing if it runs."""
        if self._running is None:
            self._executor = ThreadPoolExecutor(1, thread_name_prefix="fsync")
            self._running = asyncio.create_task(self._run(), name="fsync cadence")

    async def stop(self) -> None:
        """End, without waiting for the disk. Does nothing if it does not run."""
        running, self._running = self._running, None
        executor, self._executor = self._executor, None
        if running is not None:
            running.cancel()
            await asyncio.wait([running])
        if executor is not None:
            self._files.close()
            executor.shutdown(wait=False)

    async def sync(self) -> None:
        """Return once everything that Valkey wrote before the call is on disk.

        Raises OSError if some of it may not be, and RuntimeError if it does not run.
        """
        if self._executor is None:
            raise RuntimeError("the fsync cadence does not run")
        begun = time.monotonic()
        try:
            await asyncio.gather(*[self._flush(self._executor, file) for file in self._files.changed()])
        except OSError as error:
            self._observe(time.monotonic() - begun, error)
            self._outage.failed(error)
            await self._ask_for_rewrite()
            raise
        self._observe(time.monotonic() - begun, None)
        self._outage.recovered()

    def _flush(self, executor: ThreadPoolExecutor, file: Unsynced) -> asyncio.Future[None]:
        flushing = executor.submit(self._files.flush, file)
        flushed = asyncio.wrap_future(flushing)
        # Runs after the caller is notified. A cancelled caller does not stop the flush.
        flushing.add_done_callback(lambda _: os.close(file.descriptor))
        return flushed

    async def _run(self) -> None:
        while True:
            # `sync` has reported the failure and requested a rewrite.
            with suppress(OSError):
                await self.sync()
            await asyncio.sleep(self.interval_seconds)

    async def _ask_for_rewrite(self) -> None:
        if time.monotonic() >= self._next_rewrite:
            self._next_rewrite = time.monotonic() + SECONDS_BETWEEN_REWRITES
            # Valkey may be away, or a rewrite under way.
            with suppress(DistributorError):
                await self._rewrite()
