"""Watches of one command and of many: what happens between the subscription and the read, and in which order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence

import pytest

from distributor.dispatch.agent_registry import AgentRegistry
from distributor.dispatch.command_watcher import CommandWatcher
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.watches import Watches
from distributor.errors import NotFound, Unavailable
from distributor.identity.caller import ANYONE
from distributor.model.command import CommandResult, CommandState, Reason
from distributor.model.delivery import OutputGap, Update
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.observability.metrics import Metrics
from tests.support.memory_reader import MemoryReader
from tests.support.memory_stores import MemoryOutputLog, changed, state
from tests.support.waiting import until

ONE, OTHER = "00000000-0000-7000-8000-000000000001", "00000000-0000-7000-8000-000000000002"
SECONDS = 5.0
"""For what nothing has to wait for: a watch that takes longer waits for ever."""


class Reader(MemoryReader):
    """Knows states and results; `meanwhile` happens after the states were read and before the answer is there."""

    def __init__(self) -> None:
        super().__init__()
        self.meanwhile: Callable[[], None] = lambda: None

    async def states(self, command_ids: Sequence[str]) -> list[CommandState | None]:
        read = [self.known.get(command_id) for command_id in command_ids]
        meanwhile, self.meanwhile = self.meanwhile, lambda: None
        meanwhile()
        return read

    async def results(self, command_ids: Sequence[str]) -> list[CommandResult | None]:
        return [
            CommandResult(command_id, "agent123", "PING", CommandStatus.COMPLETED, 1, Reason(), None, "", 0, 0, 1)
            for command_id in command_ids
        ]


class World:
    """A watcher whose store is in memory, and the commands ONE and OTHER, both assigned."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.reader.known = {command_id: state(command_id) for command_id in (ONE, OTHER)}
        self.watches = Watches(Metrics())
        self.watcher = CommandWatcher(
            self.reader, MemoryOutputLog(), self.watches, OutputHolds(AgentRegistry(Metrics()), 1_000, SECONDS)
        )

    def happens(self, what: CommandState) -> None:
        """A change is stored and told."""
        self.reader.known[what.command_id] = what
        ended = what.status.terminal
        self.watches.note(changed(EventKind.FINISHED if ended else EventKind.STARTED, what), at_ms=1)

    def ends(self, *command_ids: str) -> None:
        for command_id in command_ids:
            self.happens(state(command_id, CommandStatus.COMPLETED))

    async def news_taken(self) -> None:
        """Return once the watch has looked at everything that happened."""
        await until(lambda: not any(watch._pending for watch in self.watches._open))

    async def one(self) -> list[Update]:
        async with asyncio.timeout(SECONDS):
            return [update async for update in self.watcher.watch(ANYONE, ONE, 0, with_output=True)]

    async def many(self, *command_ids: str) -> list[tuple[str, CommandStatus, int]]:
        """What is told of each command, in order, as (id, status, attempt)."""
        async with asyncio.timeout(SECONDS):
            told = [states async for states in self.watcher.watch_many(ANYONE, command_ids, ())]
        return [(one.command_id, one.status, one.attempt) for states in told for one in states]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    assert not world.watches._open, "each watch is closed at its end"


def statuses(updates: Sequence[Update]) -> list[CommandStatus]:
    return [update.status for update in updates if isinstance(update, CommandState)]


ASSIGNED, COMPLETED = CommandStatus.ASSIGNED, CommandStatus.COMPLETED


async def test_one_that_ends_while_its_state_is_read_is_seen_to_end(world: World) -> None:
    world.reader.meanwhile = lambda: world.ends(ONE)
    updates = await world.one()
    assert statuses(updates) == [ASSIGNED, COMPLETED]
    assert isinstance(updates[-1], CommandResult)


async def test_many_that_end_while_their_states_are_read_are_seen_to_end(world: World) -> None:
    world.reader.meanwhile = lambda: world.ends(ONE, OTHER)
    told = await world.many(ONE, OTHER)
    assert told == [(ONE, ASSIGNED, 1), (OTHER, ASSIGNED, 1), (ONE, COMPLETED, 1), (OTHER, COMPLETED, 1)]


async def test_a_change_among_many_agents_while_the_watch_opens_is_told(world: World) -> None:
    """Of what is not known beforehand, nothing is read: from the first, empty message on, everything is told."""
    watch = world.watcher.watch_many(ANYONE, (), ["agent123"])
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == []
        world.ends(ONE)
        assert [one.status for one in await anext(watch)] == [COMPLETED]
    await watch.aclose()


async def test_an_older_state_is_not_shown_after_a_newer_one(world: World) -> None:
    """An event of before the read comes after it."""
    older, newer = state(ONE, attempt=1), state(ONE, attempt=2)
    world.reader.known[ONE] = newer
    world.reader.meanwhile = lambda: world.watches.note(changed(EventKind.ASSIGNED, older), at_ms=1)
    updates = world.watcher.watch(ANYONE, ONE, 0, with_output=False)
    async with asyncio.timeout(SECONDS):
        assert await anext(updates) == newer
        following = asyncio.ensure_future(anext(updates))
        await world.news_taken()
        world.ends(ONE)
        assert statuses([await following]) == [COMPLETED]
    await updates.aclose()


async def test_an_older_state_of_one_of_many_is_not_shown_after_a_newer_one(world: World) -> None:
    older, newer = state(ONE, attempt=1), state(ONE, attempt=2)
    world.reader.known[ONE] = newer
    world.reader.meanwhile = lambda: world.watches.note(changed(EventKind.ASSIGNED, older), at_ms=1)
    watch = world.watcher.watch_many(ANYONE, [ONE], ())
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == [newer]
        following = asyncio.ensure_future(anext(watch))
        await world.news_taken()
        world.ends(ONE)
        assert [one.status for one in await following] == [COMPLETED]
    await watch.aclose()


async def test_an_end_that_another_watcher_has_read_is_shown_to_all(world: World) -> None:
    """It is read before its event comes."""
    one = world.watcher.watch(ANYONE, ONE, 0, with_output=False)
    of_agent, of_all = world.watcher.watch_many(ANYONE, (), ["agent123"]), world.watcher.watch_many(ANYONE, (), ())
    async with asyncio.timeout(SECONDS):
        assert statuses([await anext(one)]) == [ASSIGNED]
        assert await anext(of_agent) == await anext(of_all) == []
        following = [asyncio.ensure_future(anext(watch)) for watch in (of_agent, of_all)]
        ending = asyncio.ensure_future(anext(one))
        ended = state(ONE, COMPLETED)
        world.reader.known[ONE] = ended
        assert statuses(await world.one()) == [COMPLETED]
        world.happens(ended)
        assert await ending == ended
        assert await asyncio.gather(*following) == [[ended], [ended]]
    for watch in (one, of_agent, of_all):
        await watch.aclose()


@pytest.mark.parametrize("taken", [True, False], ids=["shown", "pending"])
async def test_a_change_that_comes_late_is_not_shown(world: World, taken: bool) -> None:
    watch = world.watcher.watch_many(ANYONE, (), ["agent123"])
    running = world.reader.known[ONE] = state(ONE, revision=2)
    queued = state(ONE, CommandStatus.QUEUED, revision=1, attempt=0)
    ended = state(OTHER, COMPLETED)
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == []
        world.watches.note(CommandChanged(EventKind.ASSIGNED, ONE, "agent123", 2, ASSIGNED, 1), at_ms=2)
        if taken:
            assert await anext(watch) == [running]
        world.watches.note(changed(EventKind.QUEUED, queued), at_ms=1)
        world.happens(ended)
        assert await anext(watch) == ([ended] if taken else [ended, running])
    await watch.aclose()


async def test_a_state_that_was_read_ahead_of_its_change_is_shown_with_it(world: World) -> None:
    """Else it would be shown twice, or before an older one."""
    watch = world.watcher.watch_many(ANYONE, (), ())
    changes = [CommandChanged(EventKind.STARTED, ONE, "agent123", revision, ASSIGNED, 1) for revision in (2, 3, 4)]
    newest = world.reader.known[ONE] = state(ONE, revision=4)
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == []
        following = asyncio.ensure_future(anext(watch))
        world.watches.note(changes[0], at_ms=1)
        await world.news_taken()
        for change in changes[1:]:
            world.watches.note(change, at_ms=1)
        assert await following == [newest]
    await watch.aclose()


async def test_the_same_state_twice_is_shown_once(world: World) -> None:
    world.reader.meanwhile = lambda: world.happens(state(ONE))
    watch = world.watcher.watch_many(ANYONE, [ONE], ())
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == [state(ONE)]
        following = asyncio.ensure_future(anext(watch))
        await world.news_taken()
        world.ends(ONE)
        assert [one.status for one in await following] == [COMPLETED]
    await watch.aclose()


async def test_states_are_read_anew_where_events_may_have_been_missed(world: World) -> None:
    def missed() -> None:
        world.reader.known[ONE] = state(ONE, COMPLETED)
        world.watches.resync()

    world.reader.meanwhile = missed
    assert statuses(await world.one()) == [ASSIGNED, COMPLETED]
    world.reader.known[ONE] = state(ONE)
    world.reader.meanwhile = missed
    assert await world.many(ONE) == [(ONE, ASSIGNED, 1), (ONE, COMPLETED, 1)]


async def test_what_changes_of_all_are_missed_ends_the_watch(world: World) -> None:
    watch = world.watcher.watch_many(ANYONE, (), ())
    async with asyncio.timeout(SECONDS):
        assert await anext(watch) == []
        world.watches.resync()
        with pytest.raises(Unavailable, match="may have been missed"):
            await anext(watch)


async def test_one_that_has_ended_is_told_at_once(world: World) -> None:
    world.reader.known[ONE] = state(ONE, COMPLETED)
    assert statuses(await world.one()) == [COMPLETED]
    assert await world.many(ONE) == [(ONE, COMPLETED, 1)]


async def test_one_that_is_unknown_is_refused(world: World) -> None:
    world.reader.known.clear()
    with pytest.raises(NotFound):
        await world.one()
    with pytest.raises(NotFound):
        await world.many(ONE)


async def test_output_that_was_never_kept_is_a_gap(world: World) -> None:
    async def results(command_ids: Sequence[str]) -> list[CommandResult | None]:
        (result,) = await Reader.results(world.reader, command_ids)
        assert result is not None
        return [result._replace(output_bytes=7)]

    world.reader.results = results  # type: ignore[method-assign]
    world.reader.known[ONE] = state(ONE, COMPLETED)
    assert (await world.one())[0] == OutputGap(0, 7)
