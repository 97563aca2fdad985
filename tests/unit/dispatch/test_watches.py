"""Who is told what: the latest state of each command, in bounded memory, never silence where something was missed."""

from __future__ import annotations

import asyncio

import pytest

from distributor.dispatch.watches import Watch, Watches
from distributor.errors import ResourceExhausted, Unavailable
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import changed, output_arrived, state
from tests.support.waiting import PATIENCE_SECONDS


def finished(command_id: str = "c1", agent_id: str = "agent123") -> CommandChanged:
    return changed(EventKind.FINISHED, state(command_id, CommandStatus.COMPLETED, agent_id=agent_id))


def assigned(command_id: str = "c1", agent_id: str = "agent123") -> CommandChanged:
    return changed(EventKind.ASSIGNED, state(command_id, agent_id=agent_id))


ASSIGNED = CommandStatus.ASSIGNED


def taken(watch: Watch) -> list[tuple[str, CommandStatus]]:
    return [(one.command_id, one.status) for one in watch.take()[0]]


@pytest.fixture
def watches() -> Watches:
    return Watches(Metrics(), max_watches=3)


async def test_a_watch_of_commands_is_told_of_these_only(watches: Watches) -> None:
    watch = watches.open(["c1", "c2"])
    for command_id in ("c1", "c2", "c3"):
        watches.note(finished(command_id), at_ms=1)
    await watch.wait()
    assert taken(watch) == [("c1", CommandStatus.COMPLETED), ("c2", CommandStatus.COMPLETED)]
    assert taken(watch) == []


async def test_a_watch_of_agents_and_one_of_everything(watches: Watches) -> None:
    of_agent, of_all = watches.open(agent_ids=["a"]), watches.open()
    watches.note(finished("c1", "a"), at_ms=1)
    watches.note(finished("c2", "b"), at_ms=1)
    assert [command_id for command_id, _ in taken(of_agent)] == ["c1"]
    assert [command_id for command_id, _ in taken(of_all)] == ["c1", "c2"]


async def test_a_watch_is_checked_again_when_an_agent_attaches_on_whose_labels_it_depends(watches: Watches) -> None:
    bound, free = watches.open(["c1"]), watches.open(["c1"])
    watches.depend(bound, ["a"])
    watches.agent_attached("b")
    assert not bound.unchecked
    watches.agent_attached("a")
    await asyncio.wait_for(bound.wait(), PATIENCE_SECONDS)
    assert (bound.unchecked, free.unchecked) == (True, False)
    bound.unchecked = False
    watches.resync()
    assert (bound.unchecked, free.unchecked) == (True, False)
    bound.unchecked = False
    watches.close(bound, ["c1"])
    watches.agent_attached("a")
    assert not bound.unchecked


async def test_only_the_latest_state_is_kept(watches: Watches) -> None:
    watch = watches.open(["c1"])
    watches.note(assigned(), at_ms=1)
    watches.note(finished(), at_ms=1)
    assert taken(watch) == [("c1", CommandStatus.COMPLETED)]


async def test_output_wakes_the_watch_of_its_command_only(watches: Watches) -> None:
    of_command, of_agent, of_all = watches.open(["c1"]), watches.open(agent_ids=["agent123"]), watches.open()
    watches.note_output(output_arrived())
    await of_command.wait()
    assert of_command.take() == ([], {}, True)
    assert of_agent.take() == of_all.take() == ([], {}, False)


async def test_a_change_is_merged_into_the_state_before_it(watches: Watches) -> None:
    watch = watches.open(["c1"])
    queued = state(status=CommandStatus.QUEUED, attempt=0)
    watches.note(changed(EventKind.QUEUED, queued), at_ms=1)
    watches.note(
        CommandChanged(EventKind.ASSIGNED, "c1", "agent123", 2, ASSIGNED, 1, receipts={"assigned_ms": 7}), at_ms=1
    )
    receipts = queued.receipts._replace(assigned_ms=7)
    expected = queued._replace(status=ASSIGNED, attempt=1, revision=2, receipts=receipts)
    assert watch.take() == ([expected], {}, False)


async def test_a_state_must_be_read_where_changes_before_it_are_not_known(watches: Watches) -> None:
    watch = watches.open(["c1"])
    started = CommandChanged(EventKind.STARTED, "c1", "agent123", 4, ASSIGNED, 1, receipts={"started_ms": 9})
    watches.note(started, at_ms=1)
    assert watch.take() == ([], {"c1": 4}, False)
    watches.learn([state(revision=4)])
    watches.note(started, at_ms=1)
    watches.note(started._replace(revision=3), at_ms=1)
    assert watch.take() == ([], {}, False)
    watches.note(started._replace(revision=5), at_ms=1)
    states, unread, _ = watch.take()
    assert ([(one.revision, one.receipts.started_ms) for one in states], unread) == ([(5, 9)], {})


async def test_a_lower_revision_does_not_replace_a_pending_one() -> None:
    watch = Watch()
    watch.note(changed(EventKind.STARTED, state(revision=3)))
    watch.note(state(revision=2))
    assert watch.take() == ([], {"c1": 3}, False)


async def test_states_that_follow_soon_come_together_and_an_ending_at_once(watches: Watches) -> None:
    watch = watches.open(["c1"])
    waiting = asyncio.create_task(watch.wait())
    watches.note(assigned(), at_ms=1)
    await asyncio.sleep(0)
    assert not waiting.done()
    watches.note(finished(), at_ms=1)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert waiting.done()
    assert taken(watch) == [("c1", CommandStatus.COMPLETED)]
    watches.note(assigned("c1"), at_ms=1)
    watch.take()
    other = watches.open(["c2"])
    watches.note(assigned("c2"), at_ms=1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await other.wait()


async def test_a_closed_watch_is_forgotten(watches: Watches) -> None:
    for arguments in (({"c1", "c2"}, ()), ((), {"agent123"}), ((), ())):
        watch = watches.open(*arguments)
        watches.close(watch, *arguments)
        watches.note(finished(), at_ms=1)
        assert taken(watch) == []


async def test_one_watcher_of_several_leaves(watches: Watches) -> None:
    first, second = watches.open(["c1"]), watches.open(["c1"])
    watches.close(first, ["c1"])
    watches.note(finished(), at_ms=1)
    assert taken(second) == [("c1", CommandStatus.COMPLETED)]


async def test_their_number_is_bounded_and_shown() -> None:
    metrics = Metrics()
    watches = Watches(metrics, max_watches=2)
    watch, _ = watches.open(), watches.open(["c1"])
    with pytest.raises(ResourceExhausted, match="2 watchers already, the limit"):
        watches.open()
    assert metrics.registry.get_sample_value("distributor_watchers") == 2
    watches.close(watch)
    watches.open()


async def test_a_watcher_that_falls_too_far_behind_is_told_and_holds_no_memory() -> None:
    watches = Watches(Metrics(), max_pending=10)
    slow = watches.open()
    for number in range(11):
        watches.note(finished(f"c{number}"), at_ms=1)
    with pytest.raises(ResourceExhausted, match="more than 10 commands behind"):
        await slow.wait()
    assert taken(slow) == []


async def test_events_that_may_have_been_missed(watches: Watches) -> None:
    watch = watches.open(["c1"])
    watches.resync()
    await watch.wait()
    assert watch.stale


async def test_a_failure_is_raised_to_those_who_wait_and_to_those_who_come_later(watches: Watches) -> None:
    waiting, busy = watches.open(), watches.open()
    waiter = asyncio.create_task(waiting.wait())
    await asyncio.sleep(0)
    # Stale, so it takes without waiting: the failure must not get lost with that.
    busy.resync()
    watches.fail(Unavailable("stopping"))
    busy.take()
    for watch in (waiter, asyncio.create_task(busy.wait())):
        with pytest.raises(Unavailable, match="stopping"):
            async with asyncio.timeout(PATIENCE_SECONDS):
                await watch
    with pytest.raises(Unavailable, match="stopping"):
        watches.open()
