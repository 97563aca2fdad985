from __future__ import annotations

import pytest

from distributor.model.command import Reason
from distributor.model.delivery import Release
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, TERMINAL, StoreWorld, changed, completion
from tests.support.waiting import eventually


async def swept(world: StoreWorld, **bounds: int) -> int:
    """Sweep everything, in as many parts as it takes."""
    total, after = 0, ""
    while True:
        count, after = await world.store.forget(after, **bounds)
        total += count
        if not count and not after:
            return total


async def until_due(world: StoreWorld, command_ids: list[str]) -> None:
    """Wait until the retention of ended commands, one millisecond, is over."""
    ended_ms = max([(await world.state(command_id)).receipts.finished_ms for command_id in command_ids])

    async def due() -> bool:
        return await world.now_ms() > ended_ms + 1

    await eventually(due)


@pytest.mark.parametrize("status", CommandStatus)
async def test_nothing_goes_before_its_time(world: StoreWorld, status: CommandStatus) -> None:
    await world.command(status)
    before = await world.dump()
    assert await swept(world) == 0
    assert await world.dump() == before


@pytest.mark.parametrize("status", TERMINAL)
async def test_after_its_retention_nothing_of_a_command_is_left(world: StoreWorld, status: CommandStatus) -> None:
    await world.attach()
    stays = await world.queued("other")
    before = await world.dump()
    brief = world.under(retention_ms=1)
    command_id = await brief.acknowledged(kind="EXEC")
    await brief.print_output(command_id, 0, b"output")
    await brief.store.finish([completion(command_id, status, output_bytes=6)])
    await brief.store.finish([completion(command_id, status)])
    await until_due(world, [command_id])
    assert await swept(brief) == 1
    after = await world.dump()
    events = after.pop(keys.EVENTS)
    before.pop(keys.EVENTS)
    assert events
    assert command_id not in str(after)
    assert after == before
    assert stays in str(after)


@pytest.mark.parametrize("status", CommandStatus)
async def test_one_ended_in_each_way_is_forgotten(world: StoreWorld, status: CommandStatus) -> None:
    """Commands that end from this status other than by a result: cancelled, expired, dropped, given up, lost."""
    world = world.under(retention_ms=1, delivery_attempts=1, queue_limit=1, queue_full="drop")
    ids = [await world.command(status)]
    match status:
        case CommandStatus.QUEUED:
            await world.store.cancel(ids[0], "")
            ids += [await world.queued(), await world.queued()]
            await world.pass_deadline(ids[2])
            await world.store.due([0])
        case CommandStatus.ASSIGNED:
            await world.store.release([Release(ids[0], AGENT, LEASE, 0, Reason("busy"))])
            ids.append(await world.acknowledged())
            await world.attach()
        case _:
            pass
    await until_due(world, ids)
    await swept(world)
    left = await world.dump()
    del left[keys.EVENTS]
    assert set(left) == {keys.AGENTS, keys.SESSION.format(agent_id=AGENT)}


async def test_in_the_order_of_their_ending(world: StoreWorld) -> None:
    """One whose time has not come keeps those that ended later."""
    first = await world.ended(CommandStatus.COMPLETED)
    later = await world.ended(CommandStatus.FAILED)
    await world.set_field(later, "finished_ms", 1)
    assert await swept(world) == 0
    await world.set_field(first, "finished_ms", 1)
    assert await swept(world) == 2
    assert not [name for name in await world.dump() if first in name or later in name]


async def test_one_of_which_nothing_is_left_is_passed_over(world: StoreWorld) -> None:
    command_id = await world.ended(CommandStatus.COMPLETED)
    await world.connection.call("DEL", keys.STATUS.format(command_id=command_id))
    assert await swept(world) == 1
    assert keys.ENDED not in await world.dump()


async def test_in_bounded_parts(world: StoreWorld) -> None:
    brief = world.under(retention_ms=1)
    ids = [await brief.ended(CommandStatus.COMPLETED) for _ in range(5)]
    await until_due(world, ids)
    assert (await brief.store.forget("", limit=2))[0] == 2
    assert await swept(brief, limit=2) == 3
    assert keys.ENDED not in await world.dump()


async def test_an_agent_is_forgotten_with_its_session_unless_it_has_commands(world: StoreWorld) -> None:
    agents = ["assigned", "delayed", "gone", "here", "ready"]
    for agent_id in agents:
        await world.attach(agent_id)
    await world.assigned("assigned")
    await world.queued("ready")
    delayed = await world.assigned("delayed")
    await world.store.release([Release(delayed, "delayed", LEASE, 60_000, Reason("stale"))])
    for agent_id in agents:
        if agent_id != "here":
            await world.connection.call("DEL", keys.SESSION.format(agent_id=agent_id))
    holds = {"assigned": keys.ASSIGNED, "delayed": keys.DELAYED, "ready": keys.READY}
    for agent_id in agents:
        kept = {name for name in holds if await world.connection.call("EXISTS", holds[name].format(agent_id=agent_id))}
        assert kept == {agent_id} & set(holds), "each has its command in one place only"
    before = await world.dump()
    assert await swept(world, limit=1) == 1
    assert await world.reader.agent_ids("", 10) == ["assigned", "delayed", "here", "ready"]
    assert changed(before, await world.dump()) == {keys.AGENTS}
