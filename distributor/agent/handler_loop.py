"""The event loop of `async def` handlers, in a thread of its own.

The connection has another loop, so a handler that blocks this one delays only other handlers, not heartbeats,
acknowledgements, cancels or signals.
"""

from __future__ import annotations

import asyncio
import contextvars
import threading
import time
from collections.abc import Callable
from functools import partial
from typing import Final

from distributor.agent.daemon_threads import DaemonThreads
from distributor.agent.loop_mailbox import LoopMailbox
from distributor.observability.logging import get_logger
from distributor.observability.loop_watchdog import LoopWatchdog
from distributor.observability.watched_loop import WatchedLoop
from distributor.tasks import finishes

logger = get_logger()

CLOSE_SECONDS: Final = 1.0
"""Limit for tasks that handlers left running, once the agent leaves."""


class HandlerLoop:
    """Runs a loop in a thread, started by the first `call()`. Call `close()` from the connection's loop.

    `home` makes calls on the connection's loop.
    """

    def __init__(self, home: LoopMailbox) -> None:
        self.home = home
        self._loop = WatchedLoop()
        self._loop.set_default_executor(DaemonThreads())
        self._mailbox = LoopMailbox(self._loop)
        self._thread: threading.Thread | None = None
        self._closing = False
        self._watchdog: asyncio.Task[None] | None = None
        self._probe: asyncio.Event | None = None
        self._probed_at = 0.0
        self._worst_lag = 0.0

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself."""
        return self._loop

    def call(self, callback: Callable[[], object]) -> None:
        """Call `callback` on the loop, soon and in order. Does nothing once the loop is closed.

        Raises RuntimeError if there is no thread to be had.
        """
        if self._thread is None:
            # A daemon thread, so that a handler that never ends does not keep the process alive.
            serve = partial(contextvars.copy_context().run, self._serve)
            thread = threading.Thread(target=serve, name="agent handlers", daemon=True)
            thread.start()
            self._thread = thread
        self._mailbox.post(callback)

    async def answers(self, within: float) -> bool:
        """Return whether the loop runs a callback within `within` seconds: it does not while a handler blocks it."""
        answered = asyncio.Event()
        self.call(lambda: self.home.post(answered.set))
        return await finishes(answered.wait(), within)

    async def lag(self, within: float) -> float:
        """How late the loop has been since the last call, in seconds. Waits for at most `within` seconds."""
        if self._thread is None:
            return 0.0
        if self._probe is None or self._probe.is_set():
            self._probe, self._probed_at = asyncio.Event(), time.monotonic()
            self.call(lambda: self.home.post(partial(self._probe_answered, time.monotonic())))
        answered = await finishes(self._probe.wait(), within)
        lag = self._worst_lag if answered else max(self._worst_lag, time.monotonic() - self._probed_at)
        self._worst_lag = 0.0
        return lag

    def _probe_answered(self, at: float) -> None:
        self._worst_lag = max(self._worst_lag, at - self._probed_at)
        if self._probe:
            self._probe.set()

    async def close(self) -> bool:
        """Cancel the tasks on the loop and end it; return False if a handler blocks it and it is abandoned."""
        if self._thread is None:
            self._loop.close()
            return True
        ended = asyncio.Event()
        self.call(lambda: self._loop.create_task(self._wind_up(lambda: self.home.post(ended.set))))
        if not await finishes(ended.wait(), 2 * CLOSE_SECONDS):
            return False
        self._thread.join()
        return True

    async def _wind_up(self, ended: Callable[[], object]) -> None:
        left = asyncio.all_tasks() - {asyncio.current_task()}
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left, timeout=CLOSE_SECONDS)
        await self._loop.shutdown_asyncgens()
        self._closing = True
        self._loop.stop()
        ended()

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._watchdog = self._loop.create_task(LoopWatchdog().run(), name="loop watchdog")
        while not self._closing:
            try:
                self._loop.run_forever()
            except BaseException as error:
                # A handler's task raised, for example, SystemExit. Keep the loop running.
                logger.error("a handler's task tried to end the agent", exc_info=error)
        self._loop.close()
