"""An executor with daemon threads, which never keep the process alive."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, Final, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

MOST_THREADS: Final = 32


class DaemonThreads(ThreadPoolExecutor):
    """An executor for `asyncio.to_thread` in handlers.

    At exit, the interpreter joins the threads of the standard executor, so a call that never returns would keep the
    agent from ending. Subclasses ThreadPoolExecutor only because event loops accept no other class.
    """

    def __init__(self) -> None:
        super().__init__(max_workers=1)
        self._lock = threading.Lock()
        self._waiting: deque[Callable[[], None]] = deque()
        self._running = 0

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Run `fn` in a thread: at once if fewer than 32 are running, otherwise when one ends."""
        future: Future[T] = Future()

        def work() -> None:
            _settle(future, lambda: fn(*args, **kwargs))

        with self._lock:
            self._waiting.append(work)
            starts = self._running < MOST_THREADS
            self._running += starts
        if starts:
            threading.Thread(target=self._work, name="agent worker", daemon=True).start()
        return future

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._running -= 1
                    return
                work = self._waiting.popleft()
            work()


def _settle(future: Future[Any], call: Callable[[], Any]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        future.set_result(call())
    except BaseException as error:  # noqa: BLE001  # the future raises it
        future.set_exception(error)
