"""The callers that watch commands, and the changes each has not yet received.

Pure bookkeeping: the event relay feeds it, the callers' streams drain it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Collection, Iterable

from distributor.errors import ResourceExhausted
from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, EventKind, EventRecord
from distributor.observability.metrics import Metrics

MAX_PENDING = 10_000
SETTLE_SECONDS = 0.002
"""How long a change that does not end a command may wait to be combined with the next one."""
_STATES = frozenset(EventKind) - {EventKind.AGENT, EventKind.OUTPUT}


class Watch:
    """Changes since the watcher last looked: the latest state of each command, without the states in between.

    So the memory of a slow watcher is bounded by the number of commands it watches, and it always receives the last
    state. A watcher of everything that falls more than `max_pending` commands behind fails with an error.
    """

    def __init__(self, max_pending: int = MAX_PENDING) -> None:
        self._max_pending = max_pending
        self._pending: dict[str, EventRecord] = {}
        self._output: dict[str, EventRecord] = {}
        self._failure: Exception | None = None
        self._event = asyncio.Event()
        self._urgent = asyncio.Event()
        self.stale = False
        """Events may have been missed: reread the states."""

    def note(self, record: EventRecord) -> None:
        """Record an event about a watched command."""
        if record.kind == EventKind.OUTPUT:
            self._output[record.subject] = record
            self._urgent.set()
        else:
            if record.kind == EventKind.FINISHED:
                self._urgent.set()
            self._pending[record.subject] = record
        if len(self._pending) > self._max_pending:
            self.fail(
                ResourceExhausted(
                    f"the watcher fell more than {self._max_pending:,} commands behind; watch again",
                    reason="WATCHER_TOO_SLOW",
                )
            )
            self._pending.clear()
        self._event.set()

    def resync(self) -> None:
        """Events may have been missed."""
        self.stale = True
        self._urgent.set()
        self._event.set()

    def fail(self, error: Exception) -> None:
        """End the watch with an error."""
        self._failure = error
        self._urgent.set()
        self._event.set()

    async def wait(self) -> None:
        """Return once there is something to take. Raises the error that the watch failed with."""
        if self._failure is None:
            await self._event.wait()
        if not self._urgent.is_set():
            # Intermediate states are soon superseded by the final one: deliver both together.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._urgent.wait()
        if self._failure is not None:
            raise self._failure

    def take(self) -> tuple[list[CommandState], bool]:
        """Take the changed states, and whether there was output."""
        pending, self._pending = self._pending, {}
        output = bool(self._output)
        self._output.clear()
        self._event.clear()
        self._urgent.clear()
        events = (record.event() for record in pending.values())
        return [event.state for event in events if isinstance(event, CommandChanged)], output


class Watches:
    """All watches of this replica: by command, by agent, and of everything. Each record costs one look-up."""

    def __init__(self, metrics: Metrics, max_watches: int = 1_000, max_pending: int = MAX_PENDING) -> None:
        self._max_pending = max_pending
        self._metrics = metrics
        self._max_watches = max_watches
        self._by_subject: dict[str, set[Watch]] = {}
        self._by_agent: dict[str, set[Watch]] = {}
        self._of_all: set[Watch] = set()
        self._open: set[Watch] = set()
        self._failure: Exception | None = None

    def open(self, command_ids: Collection[str] = (), agent_ids: Collection[str] = ()) -> Watch:
        """Open a watch of these commands, else of these agents' commands, else of all. The caller closes it.

        Raises ResourceExhausted if there are too many, and the error passed to `fail` once it was called.
        """
        if self._failure is not None:
            raise self._failure
        if len(self._open) >= self._max_watches:
            raise ResourceExhausted(
                f"{self._max_watches:,} watchers already, the limit (max_watchers)",
                reason="TOO_MANY_WATCHERS",
                retry_after_seconds=1.0,
            )
        watch = Watch(self._max_pending)
        self._open.add(watch)
        if command_ids:
            _subscribe(self._by_subject, command_ids, watch)
        elif agent_ids:
            _subscribe(self._by_agent, agent_ids, watch)
        else:
            self._of_all.add(watch)
        self._metrics.watchers(len(self._open))
        return watch

    def close(self, watch: Watch, command_ids: Collection[str] = (), agent_ids: Collection[str] = ()) -> None:
        """Close a watch; pass the same arguments as to `open`."""
        self._open.discard(watch)
        self._of_all.discard(watch)
        _unsubscribe(self._by_subject, command_ids, watch)
        _unsubscribe(self._by_agent, agent_ids, watch)
        self._metrics.watchers(len(self._open))

    def note(self, record: EventRecord) -> None:
        """Notify the watches of this command, of its agent, and of everything."""
        watches = self._by_subject.get(record.subject)
        if watches:
            for watch in watches:
                watch.note(record)
        if (self._of_all or self._by_agent) and record.kind in _STATES:
            for watch in self._of_all:
                watch.note(record)
            if self._by_agent:
                for watch in self._by_agent.get(record.agent_id, ()):
                    watch.note(record)

    def resync(self) -> None:
        """All watches may have missed events."""
        for watch in self._open:
            watch.resync()

    def fail(self, error: Exception) -> None:
        """Fail all watches, and refuse new ones."""
        self._failure = error
        for watch in self._open:
            watch.fail(error)


def _subscribe(index: dict[str, set[Watch]], keys: Iterable[str], watch: Watch) -> None:
    for key in keys:
        index.setdefault(key, set()).add(watch)


def _unsubscribe(index: dict[str, set[Watch]], keys: Iterable[str], watch: Watch) -> None:
    for key in keys:
        watches = index.get(key)
        if watches is not None:
            watches.discard(watch)
            if not watches:
                del index[key]
