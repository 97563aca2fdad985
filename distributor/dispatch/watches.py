"""Which callers watch which commands, and what each has yet to be told.

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

MOST_PENDING = 10_000
SETTLE_SECONDS = 0.002
"""How long a change that ends nothing may wait for the next one."""
_STATES = frozenset(EventKind) - {EventKind.AGENT, EventKind.OUTPUT}


class Watch:
    """What changed since the watcher last looked: the latest state of each command, not every one between.

    So the memory of a slow watcher is bounded by the number of commands it watches, and it always learns the last
    state. A watcher of everything that falls more than `most_pending` commands behind is told so and ends.
    """

    def __init__(self, most_pending: int = MOST_PENDING) -> None:
        self._most_pending = most_pending
        self._pending: dict[str, EventRecord] = {}
        self._output: dict[str, EventRecord] = {}
        self._failure: Exception | None = None
        self._event = asyncio.Event()
        self._urgent = asyncio.Event()
        self.stale = False
        """Events may have been missed: read the states anew."""

    def note(self, record: EventRecord) -> None:
        """Something happened to a command that is watched."""
        if record.kind == EventKind.OUTPUT:
            self._output[record.subject] = record
            self._urgent.set()
        else:
            if record.kind == EventKind.FINISHED:
                self._urgent.set()
            self._pending[record.subject] = record
        if len(self._pending) > self._most_pending:
            self.fail(
                ResourceExhausted(
                    f"the watcher fell more than {self._most_pending:,} commands behind; watch again",
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
        """The watch cannot go on."""
        self._failure = error
        self._urgent.set()
        self._event.set()

    async def wait(self) -> None:
        """Return once there is something to take. Raises what the watch failed with."""
        if self._failure is None:
            await self._event.wait()
        if not self._urgent.is_set():
            # What passes on its way to an end is soon replaced by it: tell both at once.
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(SETTLE_SECONDS):
                    await self._urgent.wait()
        if self._failure is not None:
            raise self._failure

    def take(self) -> tuple[list[CommandState], bool]:
        """The changed states, and whether there was output."""
        pending, self._pending = self._pending, {}
        output = bool(self._output)
        self._output.clear()
        self._event.clear()
        self._urgent.clear()
        events = (record.event() for record in pending.values())
        return [event.state for event in events if isinstance(event, CommandChanged)], output


class Watches:
    """All watches of this replica: by command, by agent, and of everything. Finding them costs one look-up a record."""

    def __init__(self, metrics: Metrics, most: int = 1_000, most_pending: int = MOST_PENDING) -> None:
        self._most_pending = most_pending
        self._metrics = metrics
        self._most = most
        self._by_subject: dict[str, set[Watch]] = {}
        self._by_agent: dict[str, set[Watch]] = {}
        self._of_all: set[Watch] = set()
        self._open: set[Watch] = set()
        self._failure: Exception | None = None

    def open(self, command_ids: Collection[str] = (), agent_ids: Collection[str] = ()) -> Watch:
        """A new watch of these commands, else of these agents' commands, else of all. The caller closes it.

        Raises ResourceExhausted where there are too many, and what `fail` was given once it was.
        """
        if self._failure is not None:
            raise self._failure
        if len(self._open) >= self._most:
            raise ResourceExhausted(
                f"there are {self._most:,} watchers already, the limit (max_watchers)",
                reason="TOO_MANY_WATCHERS",
                retry_after_seconds=1.0,
            )
        watch = Watch(self._most_pending)
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
        """Forget a watch; the arguments are those it was opened with."""
        self._open.discard(watch)
        self._of_all.discard(watch)
        _unsubscribe(self._by_subject, command_ids, watch)
        _unsubscribe(self._by_agent, agent_ids, watch)
        self._metrics.watchers(len(self._open))

    def note(self, record: EventRecord) -> None:
        """Tell whoever watches its command, its agent, or all."""
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
        """Events may have been missed by all."""
        for watch in self._open:
            watch.resync()

    def fail(self, error: Exception) -> None:
        """No watch can go on, and none is opened any more."""
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
