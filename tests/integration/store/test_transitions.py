"""What the store's functions do to a command in each status, against the table in model/lifecycle.py."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from typing import Any, Final, NamedTuple

import pytest

from distributor.errors import DistributorError
from distributor.model.agent import HeldCommand
from distributor.model.command import CommandState, Reason
from distributor.model.control import STOP
from distributor.model.delivery import CancelProgress, ClaimRequest, Progress, Release
from distributor.model.event import CommandChanged
from distributor.model.known_states import KnownStates
from distributor.model.lifecycle import TERMINAL, TRANSITIONS, CancelStage, CommandStatus, Operation, allowed
from distributor.store import command_store, keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

Act = Callable[[StoreWorld, str], Awaitable[Any]]
STALE: Final = Reason("stale", "it was under way for too long")


class Step(NamedTuple):
    """One call of a store function, and the operations that may come of it."""

    name: str
    act: Act
    operations: frozenset[Operation]
    prepare: Act | None = None
    """What happens before, and is not looked at."""


async def claim(world: StoreWorld, command_id: str) -> None:
    await world.claim(lease_id="next")


async def attach_with(world: StoreWorld, command_id: str) -> None:
    await world.attach(held=(HeldCommand(command_id, LEASE),))


async def attach_without(world: StoreWorld, command_id: str) -> None:
    await world.attach()


async def attach_without_what_it_had(world: StoreWorld, command_id: str) -> None:
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2)])
    await world.attach()


async def release(world: StoreWorld, command_id: str) -> None:
    await world.store.release([Release(command_id, AGENT, LEASE, 0, STALE)])


async def refuse_the_last_attempt(world: StoreWorld, command_id: str) -> None:
    refused = Release(command_id, AGENT, LEASE, 0, STALE, refused=True)
    await world.under(delivery_attempts=1).store.release([refused])


async def refuse_what_is_to_be_cancelled(world: StoreWorld, command_id: str) -> None:
    if (await world.state(command_id)).status is CommandStatus.ASSIGNED:
        await world.store.cancel(command_id, "enough")
    await world.store.release([Release(command_id, AGENT, LEASE, 0, STALE, refused=True)])


async def lose_the_record(world: StoreWorld, command_id: str) -> None:
    """The agent restarts and remembers nothing."""
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.attach(instance_id="another")


async def lose_the_record_and_claim(world: StoreWorld, command_id: str) -> None:
    await lose_the_record(world, command_id)
    await world.claim(lease_id="another")


async def rerun(world: StoreWorld, command_id: str) -> None:
    await world.set_field(command_id, "max_runs", 5)
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=1)])


async def cancel(world: StoreWorld, command_id: str) -> None:
    await world.store.cancel(command_id, "enough")


async def drop(world: StoreWorld, command_id: str) -> None:
    full = world.under(queue_limit=1, queue_full="drop")
    await full.enqueue(full.new(), full.new())


async def pass_deadline(world: StoreWorld, command_id: str) -> None:
    await world.pass_deadline(command_id)
    await world.store.due([0])


async def pass_run_limit(world: StoreWorld, command_id: str) -> None:
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2)])
    await pass_deadline(world, command_id)


async def pass_last_ack_deadline(world: StoreWorld, command_id: str) -> None:
    await world.pass_deadline(command_id)
    await world.under(delivery_attempts=1).store.due([0])


async def cancel_after_the_limit_of_the_doubt(world: StoreWorld, command_id: str) -> None:
    await world.set_field(command_id, "doubt_until", 1)
    await world.store.cancel(command_id, "enough")


async def stop(world: StoreWorld, command_id: str) -> None:
    """The agent stops what is to be cancelled."""
    await world.store.cancel(command_id, "enough")
    for stage in (CancelStage.DELIVERED, CancelStage.STOPPING, CancelStage.COULD_NOT_STOP):
        await world.store.cancel_stages([CancelProgress(command_id, AGENT, LEASE, stage, "pid 1 (init)")])


async def progress(world: StoreWorld, command_id: str) -> None:
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, 3)])


async def print_output(world: StoreWorld, command_id: str) -> None:
    await world.print_output(command_id, 0, b"output")


async def sweep(world: StoreWorld, command_id: str) -> None:
    await world.store.forget("")


async def give_up(world: StoreWorld, command_id: str) -> None:
    """The attempt of an assigned command was not acknowledged in time."""
    if (await world.state(command_id)).status is CommandStatus.ASSIGNED:
        await world.pass_deadline(command_id)
        await world.store.due([0])


async def give_up_and_claim(world: StoreWorld, command_id: str) -> None:
    await give_up(world, command_id)
    await world.claim(lease_id="next")


async def requeue_with_a_delay(world: StoreWorld, command_id: str) -> None:
    await world.store.release([Release(command_id, AGENT, LEASE, 60_000, STALE)])


async def outdate(world: StoreWorld, command_id: str) -> None:
    """It was queued for an instance that is gone when the next one claims."""
    await world.set_field(command_id, "type", STOP)
    await world.set_field(command_id, "instance_id", "gone")
    await world.set_field(command_id, "rare", 1)
    ready, control = keys.READY.format(agent_id=AGENT), keys.CONTROL.format(agent_id=AGENT)
    if await world.connection.call("ZREM", ready, command_id):
        await world.connection.call("ZADD", control, 1, command_id)
    await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], 5, "next", 4)])


def settle(status: CommandStatus, rerun_delay_ms: int | None = None) -> Act:
    async def act(world: StoreWorld, command_id: str) -> None:
        if rerun_delay_ms is not None:
            await world.set_field(command_id, "max_runs", 5)
        await world.store.finish([completion(command_id, status, rerun_delay_ms=rerun_delay_ms, ran=True)])

    return act


def finish(status: CommandStatus) -> Act:
    async def act(world: StoreWorld, command_id: str) -> None:
        await world.store.finish([completion(command_id, status)])

    return act


_LOST: Final = frozenset({Operation.LOSE, Operation.CLAIM, Operation.CANCEL})


def steps() -> Iterator[Step]:
    def step(name: str, act: Act, *operations: Operation) -> Step:
        return Step(name, act, frozenset(operations))

    yield step("claim", claim, Operation.CLAIM)
    yield step("attach with it", attach_with, Operation.ADOPT)
    yield step("attach without it", attach_without, Operation.RELEASE)
    yield step("attach without what it had", attach_without_what_it_had, Operation.FINISH)
    yield step("release", release, Operation.RELEASE)
    yield step("refuse the last attempt", refuse_the_last_attempt, Operation.GIVE_UP)
    yield step("refuse what is to be cancelled", refuse_what_is_to_be_cancelled, Operation.GIVE_UP)
    yield step("attach without the record", lose_the_record, Operation.LOSE)
    yield Step("give up, then claim without the record", lose_the_record_and_claim, _LOST, give_up)
    yield Step("give up, then cancel", cancel, frozenset({Operation.DOUBT, Operation.CANCEL}), give_up)
    yield Step("give up, then expire", pass_deadline, frozenset({Operation.DOUBT, Operation.EXPIRE}), give_up)
    yield Step("give up, then cancel late", cancel_after_the_limit_of_the_doubt, _LOST, give_up)
    yield Step("give up, cancel, then stop", stop, frozenset({Operation.DOUBT, Operation.CANCEL}), give_up)
    yield Step("give up the last, then hear nothing", pass_deadline, _LOST | {Operation.EXPIRE}, pass_last_ack_deadline)
    yield Step("give up the last, then hear of it", progress, frozenset(), pass_last_ack_deadline)
    yield Step("give up the last, then cancel", stop, frozenset({Operation.CANCEL}), pass_last_ack_deadline)
    yield step("stop", stop, Operation.CANCEL)
    for status in CommandStatus:
        if status.terminal:
            yield step(f"finish as {status}", finish(status), Operation.FINISH)
    yield step("finish for another run", rerun, Operation.RELEASE)
    settled = frozenset({Operation.SETTLE, Operation.FINISH, Operation.RELEASE})
    for prepare in (give_up, give_up_and_claim):
        name = prepare.__name__.replace("_", " ")
        for status in CommandStatus:
            if status.terminal:
                yield Step(f"{name}, then learn that it {status}", settle(status), settled, prepare)
        yield Step(f"{name}, then learn of a transient failure", settle(CommandStatus.FAILED, 1), settled, prepare)
    yield Step("attach with what waits", attach_with, frozenset({Operation.ADOPT}), requeue_with_a_delay)
    yield step("claim for another instance", outdate, Operation.OUTDATE, Operation.CLAIM)
    yield step("cancel", cancel, Operation.CANCEL)
    yield step("push out of a full queue", drop, Operation.CANCEL)
    yield step("pass the deadline", pass_deadline, Operation.EXPIRE, Operation.RELEASE)
    yield step("pass the run limit", pass_run_limit, Operation.EXPIRE, Operation.FINISH)
    yield step("pass the last ack deadline", pass_last_ack_deadline, Operation.EXPIRE, Operation.DOUBT)
    yield step("progress", progress)
    yield step("append output", print_output)
    yield step("forget", sweep)


STEPS: Final = list(steps())


async def outcome(world: StoreWorld, step: Step, status: CommandStatus) -> tuple[CommandStatus, CommandStatus]:
    """The status before the step and after it, of a command that was in `status` at first."""
    command_id = await world.command(status)
    if step.prepare is not None:
        await step.prepare(world, command_id)
    before = (await world.state(command_id)).status
    await step.act(world, command_id)
    return before, (await world.state(command_id)).status


@pytest.mark.parametrize("status", CommandStatus)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_each_function_goes_only_where_its_operations_lead(
    world: StoreWorld, step: Step, status: CommandStatus
) -> None:
    before, after = await outcome(world, step, status)
    assert after is before or any(allowed(operation, before, after) for operation in step.operations)


@pytest.mark.parametrize("status", CommandStatus)
@pytest.mark.parametrize("step", STEPS, ids=lambda step: step.name)
async def test_the_events_of_each_function_give_the_state_that_is_read(
    world: StoreWorld, step: Step, status: CommandStatus
) -> None:
    """Each change has one event and the next revision; whatever is shown differently has an event."""
    await outcome(world, step, status)
    known, states = KnownStates(), dict[str, CommandState]()
    changes = [event for event in await world.events() if isinstance(event, CommandChanged)]
    for change in changes:
        before = states.get(change.command_id)
        assert change.revision == (before.revision + 1 if before else 1), change
        after = known.after(change)
        assert after is not None, change
        states[change.command_id] = after
    for command_id, after in states.items():
        state = await world.state(command_id)
        if step.act is outdate:
            state = state._replace(type="PRINT")  # the step itself has written another
        assert (after._replace(type="PRINT") if step.act is outdate else after) == state


async def test_every_way_in_the_table_is_gone_by_some_function(world: StoreWorld) -> None:
    gone: set[tuple[Operation, CommandStatus, CommandStatus]] = set()
    for step in STEPS:
        for status in CommandStatus:
            if status in TERMINAL:
                continue
            await world.connection.call("FLUSHDB")
            world.epochs.clear()
            before, after = await outcome(world, step, status)
            gone |= {(op, before, after) for op in step.operations if allowed(op, before, after)}
    ways = {
        (operation, before, after)
        for operation, targets in TRANSITIONS.items()
        for before, afters in targets.items()
        for after in afters
    }
    assert ways - gone == set()


async def test_a_way_that_is_not_in_the_table_is_refused(world: StoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even by a function that was given wrong sources."""
    monkeypatch.setattr(command_store, "_CLAIM_SOURCES", "queued,completed")
    command_id = await world.ended(CommandStatus.COMPLETED)
    await world.connection.call("ZADD", keys.READY.format(agent_id=AGENT), 1, command_id)
    await world.connection.call("SET", keys.COMMAND.format(command_id=command_id), b"x")
    await world.set_field(command_id, "expires_ms", 10**15)
    with pytest.raises(DistributorError, match="no operation permits the change from completed to assigned"):
        await world.claim()
    assert (await world.state(command_id)).status is CommandStatus.COMPLETED
