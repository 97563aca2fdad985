"""Reads and changes of random histories in every order: no watch goes back, and each sees the last state.

Changes are announced in any order, some again. Watches of one command, of several, of an agent's and of all open and
close at any time, and their reads are answered when the test says. Few commands are remembered.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.dispatch import watches
from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.watches import Watches
from distributor.identity.caller import ANYONE
from distributor.model.command import CommandState
from distributor.model.event import CommandChanged, EventBatch
from distributor.model.position import milliseconds_of
from distributor.observability.metrics import Metrics
from distributor.tasks import stop_tasks
from tests.support.interleaved_store import InterleavedOutput, InterleavedStore, settle

COMMANDS: Final = tuple(f"0199a1b2-0000-7000-8000-00000000000{number}" for number in range(4))
STEPS: Final = ("change", "change", "change", "relay", "relay", "relay", "repeat", "open", "close", "answer", "answer")
CHANGES_PER_MILLISECOND: Final = 2


class Viewer:
    """The reader of one watch, and the newest revision of each command that it was shown.

    `command_ids` are those whose states it reads at first; without them, it is shown what changes from then on.
    `repeats`: it may be shown a revision again.
    """

    def __init__(
        self, states: AsyncGenerator[list[CommandState], None], command_ids: Sequence[str], relayed: int, repeats: bool
    ) -> None:
        self.command_ids = command_ids
        self.relayed_before = relayed
        self._repeats = repeats
        self.shown: dict[str, int] = {}
        self.task: asyncio.Task[None] = asyncio.ensure_future(self._read(states))

    async def _read(self, updates: AsyncGenerator[list[CommandState], None]) -> None:
        async with aclosing(updates):
            async for states in updates:
                for state in states:
                    least = self.shown.get(state.command_id, 0) + (not self._repeats)
                    assert state.revision >= least, f"{state.command_id} went back or was repeated"
                    self.shown[state.command_id] = state.revision


class World:
    """A store, the watches of one replica, and the steps that a test may take."""

    def __init__(self, max_remembered: int) -> None:
        self._forgets = max_remembered < len(COMMANDS)
        self._store = InterleavedStore()
        self._watches = Watches(Metrics(), max_remembered=max_remembered)
        holds = OutputHolds(AgentRegistry(Metrics()), 1_000, 1.0)
        self._watcher = CommandWatcher(self._store, InterleavedOutput(self._store.gates), self._watches, holds)
        self._viewers: list[Viewer] = []
        self._due: list[EventBatch] = []
        self._relayed: list[EventBatch] = []

    async def run(self, steps: Sequence[tuple[str, int]]) -> None:
        try:
            for step, choice in steps:
                await getattr(self, f"_{step}")(choice)
                await self._settled()
            await self._everything()
        finally:
            await stop_tasks([viewer.task for viewer in self._viewers])

    async def _settled(self) -> None:
        await settle()
        for viewer in self._viewers:
            if viewer.task.done():
                viewer.task.result()

    async def _change(self, choice: int) -> None:
        before = len(self._store.events)
        self._store.change(COMMANDS[choice % len(COMMANDS)], choice // len(COMMANDS))
        self._due += self._store.events[before:]

    async def _relay(self, choice: int) -> None:
        """A change comes: the newest, the oldest, or another."""
        if self._due:
            place = (-1, 0, choice % len(self._due))[choice % 3]
            self._relayed.append(self._due.pop(place))
            self._note(self._relayed[-1])

    async def _repeat(self, choice: int) -> None:
        if self._relayed:
            self._note(self._relayed[choice % len(self._relayed)])

    def _note(self, batch: EventBatch) -> None:
        (change,) = batch.events
        assert isinstance(change, CommandChanged)
        self._watches.note(change, milliseconds_of(batch.position) // CHANGES_PER_MILLISECOND)

    async def _open(self, choice: int) -> None:
        queued = list(self._store.known)
        kinds: list[tuple[Sequence[str], Sequence[str]]] = [((), ()), ((), ["agent123"])]
        if queued:
            kinds += [(queued[-2:], ()), (queued, ())]
        if choice % 5 == 4 and queued:
            command_id = queued[choice % len(queued)]
            self._view(self._states_of(command_id), [command_id])
        else:
            command_ids, agent_ids = kinds[choice % len(kinds)]
            self._view(self._watcher.watch_many(ANYONE, command_ids, agent_ids), command_ids)

    def _view(self, states: AsyncGenerator[list[CommandState], None], command_ids: Sequence[str]) -> None:
        # Only of a command known in advance, or that is remembered, is a repetition recognized.
        repeats = self._forgets and not command_ids
        self._viewers.append(Viewer(states, command_ids, len(self._relayed), repeats))

    async def _states_of(self, command_id: str) -> AsyncGenerator[list[CommandState], None]:
        async with aclosing(self._watcher.watch(ANYONE, command_id, 0, with_output=False)) as updates:
            async for update in updates:
                if isinstance(update, CommandState):
                    yield [update]

    async def _close(self, choice: int) -> None:
        if len(self._viewers) > 1:
            await stop_tasks([self._viewers.pop(choice % len(self._viewers)).task])

    async def _answer(self, choice: int) -> None:
        self._store.gates.open(choice)

    async def _everything(self) -> None:
        """Every change comes and every read is answered: then each viewer has seen the last state, or none."""
        while self._due:
            await self._relay(len(self._due))
        await self._settled()
        while self._store.gates.waiting:
            await self._answer(0)
            await self._settled()
        for viewer in self._viewers:
            last = {name: self._store.known[name].revision for name in self._expected(viewer)}
            assert viewer.shown == last

    def _expected(self, viewer: Viewer) -> Iterable[str]:
        """The commands that a viewer is shown: of those not known in advance, each that changed for the last time."""
        if viewer.command_ids:
            return viewer.command_ids
        came = {batch.position: place for place, batch in enumerate(self._relayed)}
        changes = ((batch.position, change) for batch in self._store.events for change in batch.events)
        last = {change.command_id: position for position, change in changes if isinstance(change, CommandChanged)}
        due = {name for name, position in last.items() if came[position] >= viewer.relayed_before}
        return due | viewer.shown.keys()


@settings(max_examples=400)
@given(
    max_remembered=st.sampled_from([1, 2, 100]),
    steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0, 23)), min_size=10, max_size=80),
)
def test_no_watch_goes_back_or_misses_the_last_state(max_remembered: int, steps: list[tuple[str, int]]) -> None:
    async def run() -> None:
        await World(max_remembered).run(steps)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(watches, "SETTLE_SECONDS", 0.0)
        asyncio.run(run())
