"""The callers that watch commands, and the changes each has not yet received.

Pure bookkeeping: the event relay feeds it, the callers' streams drain it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Mapping
from typing import NamedTuple

from distributor.errors import ResourceExhausted
from distributor.model.announcements import MAX_COMMANDS, Announcements
from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, OutputArrived
from distributor.observability.metrics import Metrics

MAX_PENDING = 10_000
SETTLE_SECONDS = 0.005
"""How long a change that does not end a command may wait to be combined with the next one."""


class Changes(NamedTuple):
    """What a watcher has not received: states, the revisions whose state must be read, and whether there was output."""

    states: list[CommandState]
    unread: Mapping[str, int]
    """By command id. If the state read is newer, its change was announced before or will be."""
    output: bool


class Watch:
    """Changes since the watcher last looked: the latest state of each command, without the states in between.

    So the memory of a slow watcher is bounded by the number of commands it watches, and it always receives the last
    state. A watcher of everything that falls more than `max_pending` commands behind fails with an error.
    """

    def __init__(self, max_pending: int = MAX_PENDING) -> None:
        self._max_pending = max_pending
        self._pending: dict[str, CommandState | CommandChanged] = {}
        """The change if the state after it must be read."""
        self._output = False
        self._failure: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._settling: asyncio.TimerHandle | None = None
        self._ready = False
        self.stale = False
        """Events may have been missed: reread the states."""
        self.agents: Collection[str] = ()
        """The agents whose labels decide whether its caller may see what it watches."""
        self.unchecked = False
        """One of these agents has attached, perhaps with other labels: check again what may be seen."""

    def note(self, news: CommandState | CommandChanged) -> None:
        """Record the newer state of a watched command, or the change if the state after it must be read."""
        pending = self._pending.get(news.command_id)
        if pending is not None and pending.revision > news.revision:
            return
        self._pending[news.command_id] = news
        if len(self._pending) > self._max_pending:
            self.fail(
                ResourceExhausted(
                    f"the watcher fell more than {self._max_pending:,} commands behind; watch again",
                    reason="WATCHER_TOO_SLOW",
                )
            )
            self._pending.clear()
        elif news.status.terminal:
            self._wake()
        elif not self._ready and self._settling is None:
            # Intermediate states are soon superseded by the final one: deliver both together.
            self._settling = asyncio.get_running_loop().call_later(SETTLE_SECONDS, self._wake)

    def note_output(self) -> None:
        """Record that a watched command has output."""
        self._output = True
        self._wake()

    def resync(self) -> None:
        """Events may have been missed."""
        self.stale = True
        self.unchecked = bool(self.agents)
        self._wake()

    def recheck(self) -> None:
        """The labels of an agent that it depends on may have changed."""
        self.unchecked = True
        self._wake()

    def fail(self, error: Exception) -> None:
        """End the watch with an error."""
        self._failure = error
        self._wake()

    async def wait(self) -> None:
        """Return once there is something to take. Raises the error that the watch failed with. One waiter at a time."""
        if not self._ready:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None
        if self._failure is not None:
            raise self._failure

    def take(self) -> Changes:
        """Take all changes."""
        pending, self._pending = self._pending, {}
        output, self._output = self._output, False
        self._ready = self._failure is not None
        self._settled()
        states: list[CommandState] = []
        unread: dict[str, int] = {}
        for news in pending.values():
            if isinstance(news, CommandState):
                states.append(news)
            else:
                unread[news.command_id] = news.revision
        return Changes(states, unread, output)

    def close(self) -> None:
        """Drop everything."""
        self._settled()
        self._pending.clear()

    def _wake(self) -> None:
        self._settled()
        self._ready = True
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _settled(self) -> None:
        if self._settling is not None:
            self._settling.cancel()
            self._settling = None


class Watches:
    """All watches of this replica: by command, by agent, and of everything. Each record costs one look-up."""

    def __init__(
        self,
        metrics: Metrics,
        max_watches: int = 1_000,
        max_pending: int = MAX_PENDING,
        max_remembered: int = MAX_COMMANDS,
    ) -> None:
        """`max_remembered` limits the commands whose announced revision is remembered."""
        self._max_pending = max_pending
        self._metrics = metrics
        self._max_watches = max_watches
        self._announcements = Announcements(max_remembered)
        self._newest_ms = -1
        """When the newest change happened, watched or not, by Valkey's clock."""
        self._by_command: dict[str, set[Watch]] = {}
        self._by_agent: dict[str, set[Watch]] = {}
        self._by_labels: dict[str, set[Watch]] = {}
        """By agent whose labels matter to them."""
        self._of_all: set[Watch] = set()
        self._open: set[Watch] = set()
        self._failure: Exception | None = None

    def open(self, command_ids: Collection[str] = (), agent_ids: Collection[str] = ()) -> Watch:
        """Open a watch of these commands, else of these agents' commands, else of all. Close it when done.

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
            _subscribe(self._by_command, command_ids, watch)
        else:
            # It reads nothing at first, and changes that nobody watched so far were not announced.
            self._announcements.forget_until(self._newest_ms)
            if agent_ids:
                _subscribe(self._by_agent, agent_ids, watch)
            else:
                self._of_all.add(watch)
        self._metrics.watchers(len(self._open))
        return watch

    def close(self, watch: Watch, command_ids: Collection[str] = (), agent_ids: Collection[str] = ()) -> None:
        """Close a watch; pass the same arguments as to `open`."""
        watch.close()
        self._open.discard(watch)
        self._of_all.discard(watch)
        _unsubscribe(self._by_command, command_ids, watch)
        _unsubscribe(self._by_agent, agent_ids, watch)
        _unsubscribe(self._by_labels, watch.agents, watch)
        self._metrics.watchers(len(self._open))

    def note(self, change: CommandChanged, at_ms: int) -> None:
        """Notify the watches of this command, of its agent, and of everything. Changes may come late or twice.

        `at_ms` is when the command changed, by Valkey's clock.
        """
        if at_ms > self._newest_ms:
            self._newest_ms = at_ms
        watching = [
            *self._by_command.get(change.command_id, ()),
            *self._by_agent.get(change.agent_id, ()),
            *self._of_all,
        ]
        if not watching:
            return
        news = self._announcements.announce(change, at_ms)
        if news is not None:
            for watch in watching:
                watch.note(news)

    def depend(self, watch: Watch, agent_ids: Collection[str]) -> None:
        """Have a watch checked again when one of these agents attaches. Call once, before its labels are read."""
        watch.agents = frozenset(agent_ids)
        _subscribe(self._by_labels, watch.agents, watch)

    def agent_attached(self, agent_id: str) -> None:
        """An agent has attached, perhaps with other labels than before."""
        for watch in self._by_labels.get(agent_id, ()):
            watch.recheck()

    def note_output(self, output: OutputArrived) -> None:
        """Notify the watches of this command."""
        for watch in self._by_command.get(output.command_id, ()):
            watch.note_output()

    def learn(self, states: Iterable[CommandState]) -> None:
        """Note states that a watcher has read, so that later changes can be merged into them."""
        for state in states:
            self._announcements.learn(state)

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
