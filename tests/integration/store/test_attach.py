from __future__ import annotations

import pytest

from distributor.errors import AlreadyExists
from distributor.model.agent import AdoptedCommand, HeldCommand, Renewal
from distributor.model.command import Reason
from distributor.model.delivery import ClaimRequest, Progress, Release
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import (
    AGENT,
    INSTANCE,
    LEASE,
    TERMINAL,
    StoreWorld,
    agent_index,
    changed,
    completion,
    own_keys,
    status_index,
)

SESSION_CHANGES = {*agent_index(keys.SESSION), keys.EVENTS}


def held(command_id: str, lease_id: str = LEASE) -> tuple[HeldCommand, ...]:
    return (HeldCommand(command_id, lease_id),)


@pytest.mark.parametrize("status", CommandStatus)
async def test_what_becomes_of_a_held_command_in_each_status(world: StoreWorld, status: CommandStatus) -> None:
    """`queued` is one that was taken back and not given out again: its agent has it after all."""
    command_id = await world.command(CommandStatus.ASSIGNED if status is CommandStatus.QUEUED else status)
    if status is CommandStatus.QUEUED:
        await world.store.release([Release(command_id, AGENT, LEASE, 60_000, Reason("not_delivered", "?"))])
    before, state_before = await world.dump(), await world.state(command_id)
    attached = await world.attach(held=held(command_id))
    after, state = await world.dump(), await world.state(command_id)
    if status.terminal:
        assert attached.adopted == {}
        assert state == state_before
        assert changed(before, after) == SESSION_CHANGES
        return
    adopted = attached.adopted[command_id]
    assert adopted == AdoptedCommand(
        command_id,
        LEASE,
        1,
        state.receipts.assigned_ms,
        None,
        adopted.acknowledged_after_ms,
        None,
        0,
        None,
        revision=state_before.revision + 1,
    )
    assert (state.status, state.attempt, state.reason) == (CommandStatus.ASSIGNED, 1, Reason())
    assert state.receipts.acknowledged_ms >= state.receipts.assigned_ms > 0
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert 0 <= deadline - attached.now_ms - 300_000 - world.policy.run_limit_slack_ms < 10_000
    expected = {*own_keys(command_id, keys.STATUS), keys.DEADLINES, *SESSION_CHANGES}
    if status is CommandStatus.QUEUED:
        expected |= agent_index(keys.ASSIGNED, keys.DELAYED)
        expected |= status_index(CommandStatus.QUEUED, CommandStatus.ASSIGNED)
    assert changed(before, after) == expected
    assert await world.store.finish([completion(command_id)]) == ["stored"]


async def test_one_that_waits_to_be_given_out_again_is_taken_out_of_the_queue(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason())])
    await world.attach(held=held(command_id))
    assert keys.READY.format(agent_id=AGENT) not in await world.dump()
    assert (await world.claim()).commands == []


async def test_what_is_known_of_a_held_command_comes_back(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, 3)])
    await world.print_output(command_id, 0, b"12345")
    await world.store.cancel(command_id, "stop it")
    assigned_ms = (await world.state(command_id)).receipts.assigned_ms
    attached = await world.attach(held=held(command_id))
    state = await world.state(command_id)
    known = AdoptedCommand(command_id, LEASE, 1, assigned_ms, 1, 2, 3, 5, "stop it", revision=state.revision)
    assert attached.adopted == {command_id: known}
    assert state.reason == Reason("cancel_requested", "stop it"), "who comes back learns why, and so do readers"


async def test_output_of_an_earlier_attempt_is_not_counted(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.print_output(command_id, 0, b"12345")
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    await world.claim(lease_id="lease2")
    await world.print_output(command_id, 0, b"123", lease_id="lease2")
    attached = await world.attach(held=held(command_id, "lease2"))
    assert attached.adopted[command_id].output_bytes == 3


async def test_the_result_of_a_run_that_is_counted_is_stored_and_the_command_stays_in_the_queue(
    world: StoreWorld,
) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=60_000)])
    before = await world.dump()
    attached = await world.attach(held=held(command_id))
    assert (attached.adopted, attached.counted) == ({}, frozenset({command_id}))
    assert changed(before, await world.dump()) == SESSION_CHANGES


async def test_the_result_of_a_run_that_is_counted_while_the_next_attempt_was_under_way(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    await world.claim(lease_id="lease2")
    attached = await world.attach(held=held(command_id))
    assert (attached.adopted, attached.counted) == ({}, frozenset({command_id}))
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.QUEUED, "not_delivered")
    assert [command.attempt for command in (await world.claim(lease_id="lease3")).commands] == [3]


@pytest.mark.parametrize("status", TERMINAL)
async def test_the_result_of_a_run_that_is_counted_once_the_command_has_ended(
    world: StoreWorld, status: CommandStatus
) -> None:
    command_id = await world.acknowledged(max_runs=2)
    await world.store.finish([completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0)])
    await world.claim(lease_id="lease2")
    await world.store.finish([completion(command_id, status, lease_id="lease2")])
    attached = await world.attach(held=held(command_id))
    assert (attached.adopted, attached.counted) == ({}, frozenset())


async def test_what_is_not_the_agents_is_dropped(world: StoreWorld) -> None:
    await world.attach()
    foreign = await world.assigned("other")
    superseded = await world.assigned()
    await world.store.release([Release(superseded, AGENT, LEASE, 0, Reason())])
    await world.claim(lease_id="lease2")
    await world.store.progress([Progress(superseded, AGENT, "lease2", 1, 2, 3)])
    never_given_out = await world.queued()
    items = (
        HeldCommand(foreign, LEASE),
        HeldCommand(superseded, LEASE),
        HeldCommand(never_given_out, ""),
        HeldCommand(world.new_id(), LEASE),
        HeldCommand("not an id", ""),
    )
    attached = await world.attach(held=items)
    assert attached.adopted == {}
    assert (await world.state(foreign)).status is CommandStatus.ASSIGNED
    assert (await world.state(never_given_out)).status is CommandStatus.QUEUED


async def test_the_same_command_twice(world: StoreWorld) -> None:
    command_id = await world.assigned()
    attached = await world.attach(held=held(command_id) * 2)
    assert set(attached.adopted) == {command_id}
    assert (await world.state(command_id)).status is CommandStatus.ASSIGNED


async def test_a_missing_one_that_was_never_acknowledged_goes_back(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.attach()
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.QUEUED, "not_delivered")
    assert [command.attempt for command in (await world.claim()).commands] == [2]


async def test_a_missing_one_that_was_never_acknowledged_fails_after_the_last_attempt(world: StoreWorld) -> None:
    world = world.under(delivery_attempts=1)
    command_id = await world.assigned()
    await world.attach()
    state = await world.state(command_id)
    assert (state.status, state.reason.code) == (CommandStatus.FAILED, "not_delivered")


async def test_a_missing_one_that_was_acknowledged_has_an_unknown_outcome(world: StoreWorld) -> None:
    command_id = await world.acknowledged(max_runs=5)
    await world.attach()
    (result,) = await world.reader.results([command_id])
    assert result is not None
    assert (result.status, result.reason.code) == (CommandStatus.FAILED, "outcome_unknown")
    assert keys.ASSIGNED.format(agent_id=AGENT) not in await world.dump()


async def test_a_missing_one_with_a_cancel_asked_for(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.store.cancel(command_id, "")
    await world.attach()
    assert (await world.state(command_id)).status is CommandStatus.CANCELLED


async def test_another_live_instance_is_refused(world: StoreWorld) -> None:
    await world.acknowledged()
    before = await world.dump()
    with pytest.raises(AlreadyExists, match="another live instance is connected as agent 'agent123'") as caught:
        await world.attach(instance_id="instance2")
    assert (caught.value.reason, caught.value.field) == ("AGENT_ID_TAKEN", "hello.agent_id")
    # When the other has been silent for too long, should it stay silent.
    assert caught.value.retry_after_seconds is not None
    assert 0 < world.policy.offline_after_ms / 1000 - caught.value.retry_after_seconds < 10
    after = await world.dump()
    # The session notes the rival; nothing else changes.
    session = f"agent:{AGENT}:session"
    (rival,) = {name for name in after if after[name] != before.get(name)}
    assert rival == session


@pytest.mark.parametrize("leave", ["silent", "detached"])
async def test_an_instance_that_is_away_is_replaced(world: StoreWorld, leave: str) -> None:
    first = await world.attach()
    if leave == "silent":
        await world.silence()
    else:
        await world.sessions.detach([(AGENT, first.epoch)])
    second = await world.attach(instance_id="instance2")
    assert second.epoch == first.epoch + 1


async def test_the_same_instance_supersedes_its_own_session(world: StoreWorld) -> None:
    first = await world.attach()
    await world.queued()
    second = await world.attach(instance_id=INSTANCE)
    assert second.epoch > first.epoch
    (claim,) = await world.store.claim([ClaimRequest(AGENT, first.epoch, 1, LEASE)])
    assert claim.superseded
    assert await world.sessions.heartbeat([Renewal(AGENT, first.epoch), Renewal(AGENT, second.epoch)]) == [False, True]


async def test_epochs_only_grow(world: StoreWorld) -> None:
    epochs = []
    for _ in range(12):
        epochs.append((await world.attach()).epoch)
        await world.sessions.detach([(AGENT, epochs[-1])])
    assert epochs == list(range(1, 13))


async def test_what_an_agent_says_of_itself(world: StoreWorld) -> None:
    attached = await world.attach(types=("PING", "EXEC"))
    (info, nobody) = await world.reader.agents([AGENT, "nobody"])
    assert nobody is None
    assert info is not None
    assert (info.epoch, info.present, info.capacity, info.version) == (1, True, 5, "test 1")
    assert (info.types, info.labels) == (("PING", "EXEC"), {"site": "lab"})
    assert info.connected_ms == info.last_seen_ms == attached.now_ms
    assert info.away_since_ms == 0
    ttl = await world.connection.call("PTTL", keys.SESSION.format(agent_id=AGENT))
    assert 0 < ttl <= world.policy.session_ttl_ms


@pytest.mark.parametrize("later", [["instance2"], ["instance2", "instance3", INSTANCE]])
async def test_what_was_proven_not_to_have_started_stays_so(world: StoreWorld, later: list[str]) -> None:
    """Its agent came back without it and with its record, before it lost that."""
    command_id = await world.assigned()
    await world.attach()
    assert (await world.state(command_id)).status is CommandStatus.QUEUED
    for instance_id in later:
        await world.sessions.detach([(AGENT, world.epochs[AGENT])])
        await world.attach(instance_id=instance_id)
    assert [command.command_id for command in (await world.claim(lease_id="lease2")).commands] == [command_id]


@pytest.mark.parametrize("later", [["instance2"], ["instance2", "instance2"], ["instance2", INSTANCE]])
async def test_what_was_not_proven_before_its_record_was_lost_has_an_unknown_outcome(
    world: StoreWorld, later: list[str]
) -> None:
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    for instance_id in later:
        await world.sessions.detach([(AGENT, world.epochs[AGENT])])
        await world.attach(instance_id=instance_id)
    assert (await world.claim(lease_id="lease2")).commands == []
    assert (await world.state(command_id)).reason.code == "outcome_unknown"


async def test_of_old_sessions_no_proof_is_left(world: StoreWorld) -> None:
    """An agent whose record changed very often since an attempt was given up may have started that."""
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    changes = "".join(f"{epoch} " for epoch in range(10, 74))
    await world.connection.call("HSET", keys.SESSION.format(agent_id=AGENT), "epoch", 80, "record_changes", changes)
    world.epochs[AGENT] = 80
    assert (await world.claim(lease_id="lease2")).commands == []
    assert (await world.state(command_id)).reason.code == "outcome_unknown"


async def test_a_bounded_number_of_changed_records_is_remembered(world: StoreWorld) -> None:
    await world.attach()
    changes = "".join(f"{epoch} " for epoch in range(-64, 0))
    await world.connection.call("HSET", keys.SESSION.format(agent_id=AGENT), "record_changes", changes)
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.attach(instance_id="instance2")
    kept = (await world.connection.call("HGET", keys.SESSION.format(agent_id=AGENT), "record_changes")).decode()
    assert kept.split() == [*map(str, range(-63, 0)), "2"]


@pytest.mark.parametrize("sessions", [1, 3])
async def test_of_sessions_that_are_forgotten_no_proof_is_left(world: StoreWorld, sessions: int) -> None:
    """An agent that was away for longer than its session is kept, or whose session another program has deleted."""
    for _ in range(sessions):
        await world.attach()
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.connection.call("DEL", keys.SESSION.format(agent_id=AGENT))
    for _ in range(sessions + 1):
        await world.attach(instance_id="instance2")
        assert (await world.claim(lease_id="lease2")).commands == []
    assert (await world.state(command_id)).reason.code == "outcome_unknown"


async def test_a_first_session_is_no_loss_of_a_record(world: StoreWorld) -> None:
    await world.attach()
    await world.connection.call("DEL", keys.SESSION.format(agent_id=AGENT))
    await world.attach()
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await world.attach()
    assert [command.command_id for command in (await world.claim(lease_id="lease2")).commands] == [command_id]
