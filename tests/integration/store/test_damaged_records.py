"""Another program has damaged a record: the calls that meet it mend it, and lose nothing of the others."""

from __future__ import annotations

from typing import Final

import pytest

from distributor.model.agent import HeldCommand
from distributor.model.command import Reason
from distributor.model.delivery import CancelProgress, Progress, Release
from distributor.model.event import CommandChanged
from distributor.model.lifecycle import CancelStage, CommandStatus
from distributor.model.listing import CommandFilter
from distributor.model.repair import Repair, RepairKind
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

NEEDED: Final = ("status", "revision", "attempt", "queued_us", "expires_ms", "rank", "time_limit_ms")
"""Fields that changes cannot do without."""
SHOWN: Final = ("type", "priority", "assigned_ms")
"""Fields that events cannot do without."""
MENDED: Final = RepairKind.RECORD_INCOMPLETE


async def lose(world: StoreWorld, command_id: str, *fields: str) -> None:
    """Delete fields of a record."""
    await world.connection.call("HDEL", keys.STATUS.format(command_id=command_id), *fields)


def repairs_in(world: StoreWorld) -> list[Repair]:
    """What is reported as repaired from now on."""
    repairs: list[Repair] = []
    world.functions.on_repair = repairs.append
    return repairs


async def three(world: StoreWorld, status: CommandStatus) -> list[str]:
    """The ids of three commands in this state, under LEASE."""
    await world.attach()
    ids = [await world.queued() for _ in range(3)]
    if status is CommandStatus.ASSIGNED:
        await world.claim()
    return ids


def told_of(world: StoreWorld) -> set[str]:
    """The ids of the commands whose changes came with replies."""
    return {event.command_id for batch in world.told for event in batch.events if isinstance(event, CommandChanged)}


@pytest.mark.parametrize("fields", [*((field,) for field in NEEDED), NEEDED])
async def test_it_is_claimed_with_the_others(world: StoreWorld, fields: tuple[str, ...]) -> None:
    repairs = repairs_in(world)
    ids = await three(world, CommandStatus.QUEUED)
    await lose(world, ids[1], *fields)
    claim = await world.claim()
    assert [command.command_id for command in claim.commands] == ids
    assert {(await world.state(command_id)).status for command_id in ids} == {CommandStatus.ASSIGNED}
    if set(fields) - {"rank", "time_limit_ms"}:
        assert repairs == [Repair(MENDED, ids[1])]


@pytest.mark.parametrize(
    "field", ["revision", "attempt", "queued_us", "expires_ms", "rank", "time_limit_ms", "priority"]
)
@pytest.mark.parametrize("status", [CommandStatus.QUEUED, CommandStatus.ASSIGNED])
async def test_text_where_a_number_must_be_keeps_no_other_from_being_acted_on(
    world: StoreWorld, status: CommandStatus, field: str
) -> None:
    ids = await three(world, status)
    for command_id in ids:
        await world.connection.call("ZADD", keys.DEADLINES, 1, command_id)
    await world.set_field(ids[0], field, "x")
    _, done = await world.store.due([0])
    assert {command.command_id for command in done} == set(ids)
    assert told_of(world) >= set(ids[1:])
    await world.set_field(ids[0], field, "y")
    assert {command.command_id for command in (await world.claim(lease_id="lease2")).commands} == set(ids)


async def test_one_without_its_agent_is_claimed_with_the_others(world: StoreWorld) -> None:
    """The queue that it is in names its agent."""
    ids = await three(world, CommandStatus.QUEUED)
    await lose(world, ids[1], "agent_id", "revision")
    assert [command.command_id for command in (await world.claim()).commands] == ids
    assert (await world.hash(ids[1]))["agent_id"] == AGENT


async def test_what_another_agents_queue_names_is_not_given_to_that(world: StoreWorld) -> None:
    other = "agent4"
    await world.attach(other)
    ids = await three(world, CommandStatus.QUEUED)
    kept = await world.queued(other)
    await world.connection.call("ZADD", keys.READY.format(agent_id=other), 1, ids[1])
    assert [command.command_id for command in (await world.claim(other)).commands] == [kept]
    assert [command.command_id for command in (await world.claim()).commands] == ids


@pytest.mark.parametrize("template", [keys.STATUS, keys.COMMAND, keys.READY])
async def test_a_key_of_another_type_keeps_no_other_command_from_being_claimed(
    world: StoreWorld, template: str
) -> None:
    other = "agent4"
    await world.attach(other)
    kept = await world.queued(other)
    ids = await three(world, CommandStatus.QUEUED)
    name = template.format(command_id=ids[1], agent_id=AGENT)
    await world.connection.call("DEL", name)
    await world.connection.call("SADD" if template != keys.READY else "SET", name, "x")
    claim = await world.claim()
    claimed = [command.command_id for command in claim.commands]
    assert claimed == ([] if template == keys.READY else [ids[0], ids[2]])
    assert [command.command_id for command in (await world.claim(other)).commands] == [kept]


@pytest.mark.parametrize("field", SHOWN)
@pytest.mark.parametrize("call", ["due", "progress", "stopping", "attach"])
async def test_doubt_about_it_and_the_others_is_shown(world: StoreWorld, call: str, field: str) -> None:
    once = world.under(delivery_attempts=1)
    ids = await three(once, CommandStatus.ASSIGNED)
    for command_id in ids:
        await once.store.cancel(command_id, "enough")
        await once.pass_deadline(command_id)
    await once.store.due([1_000])
    assert {(await once.state(command_id)).reason.code for command_id in ids} == {"unconfirmed"}
    for command_id in ids:
        await once.pass_deadline(command_id)
    await lose(once, ids[1], field)
    once.told.clear()
    match call:
        case "due":
            await once.store.due([1_000])
        case "progress":
            assert await once.store.progress([Progress(one, AGENT, LEASE, 1, 2, 3) for one in ids]) == [True] * 3
        case "stopping":
            stopping = [CancelProgress(one, AGENT, LEASE, CancelStage.STOPPING) for one in ids]
            assert await once.store.cancel_stages(stopping) == [True] * 3
        case _:
            attached = await once.attach(held=tuple(HeldCommand(one, LEASE) for one in ids))
            assert attached.adopted.keys() == set(ids)
    assert told_of(once) >= set(ids)


async def test_one_that_has_lost_its_attempt_is_not_started_by_an_agent_without_its_record(world: StoreWorld) -> None:
    command_id = await world.assigned()
    await world.pass_deadline(command_id)
    await world.store.due([0])
    await lose(world, command_id, "attempt")
    await world.silence()
    await world.attach(instance_id="another instance")
    assert (await world.claim()).commands == []
    assert (await world.state(command_id)).reason.code == "outcome_unknown"


@pytest.mark.parametrize("field", [*NEEDED, *SHOWN, "agent_id"])
async def test_it_is_shown_with_the_others(world: StoreWorld, field: str) -> None:
    ids = await three(world, CommandStatus.ASSIGNED)
    await lose(world, ids[1], field)
    states = await world.reader.states(ids)
    page = await world.reader.page(CommandFilter(), "", 10)
    details = await world.reader.details(ids[1])
    if field != "status":
        assert None not in states
        assert details is not None
        assert {state.command_id for state in page.items} == set(ids)
    assert {state.command_id for state in page.items} >= {ids[0], ids[2]}


@pytest.mark.parametrize("fields", [*((field,) for field in NEEDED), NEEDED])
@pytest.mark.parametrize("status", [CommandStatus.QUEUED, CommandStatus.ASSIGNED])
async def test_the_deadlines_of_the_others_are_acted_on(
    world: StoreWorld, status: CommandStatus, fields: tuple[str, ...]
) -> None:
    ids = await three(world, status)
    for command_id in ids:
        await world.pass_deadline(command_id)
    await lose(world, ids[0], *fields)
    _, done = await world.store.due([1_000])
    expected = CommandStatus.TIMEOUT if status is CommandStatus.QUEUED else CommandStatus.QUEUED
    assert {command.command_id: command.status for command in done}.items() >= dict.fromkeys(ids[1:], expected).items()
    assert len(done) == 3
    assert await world.deadline(ids[0]) != 1 or (await world.state(ids[0])).status.terminal


@pytest.mark.parametrize("fields", [*((field,) for field in (*NEEDED, *SHOWN)), NEEDED, SHOWN])
@pytest.mark.parametrize("call", ["progress", "finish", "run again", "release", "attach", "attach without", "cancel"])
async def test_reports_about_it_and_the_others_count(world: StoreWorld, call: str, fields: tuple[str, ...]) -> None:
    ids = await three(world, CommandStatus.ASSIGNED)
    await lose(world, ids[1], *fields)
    world.told.clear()
    match call:
        case "progress":
            assert await world.store.progress([Progress(one, AGENT, LEASE, 1, 2, 3) for one in ids]) == [True] * 3
        case "finish":
            assert await world.store.finish([completion(one, ran=True) for one in ids]) == ["stored"] * 3
        case "run again":
            reports = [completion(one, CommandStatus.FAILED, rerun_delay_ms=1_000, ran=True) for one in ids]
            assert await world.store.finish(reports) == ["stored"] * 3
        case "release":
            refused = [Release(one, AGENT, LEASE, 1_000, Reason("busy"), refused=True) for one in ids]
            assert await world.store.release(refused) == [CommandStatus.QUEUED] * 3
        case "attach":
            attached = await world.attach(held=tuple(HeldCommand(one, LEASE) for one in ids))
            assert attached.adopted.keys() == set(ids)
        case "attach without":
            await world.attach()
            assert {(await world.state(one)).status for one in ids} == {CommandStatus.QUEUED}
        case _:
            assert [await world.store.cancel(one, "enough") is not None for one in ids] == [True] * 3
    assert told_of(world) >= set(ids)
    [_ async for _ in world.index_checker.sweep()]
    assert [repair async for repairs in world.index_checker.sweep() for repair in repairs] == []


async def test_what_has_ended_without_its_agent_keeps_no_other_from_being_forgotten(world: StoreWorld) -> None:
    ids = [await world.ended(CommandStatus.COMPLETED) for _ in range(2)]
    await lose(world, ids[0], "agent_id")
    soon = world.under(retention_ms=0)
    await world.next_millisecond()
    await soon.store.forget("")
    assert (await world.reader.states([ids[1]])) == [None]
    [_ async for _ in world.index_checker.sweep()]
    await soon.store.forget("")
    assert await world.connection.call("EXISTS", keys.STATUS.format(command_id=ids[0])) == 0
