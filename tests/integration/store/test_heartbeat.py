from __future__ import annotations

import pytest

from distributor.model.agent import AgentStatus, Renewal
from distributor.model.agent_vitals import HEALTHY, AgentVitals
from distributor.model.delivery import Progress
from distributor.model.event import AgentChanged
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, agent_index, changed, completion


@pytest.mark.parametrize("status", CommandStatus)
async def test_it_renews_the_session_and_leaves_commands_alone(world: StoreWorld, status: CommandStatus) -> None:
    await world.command(status)
    await world.silence()
    before = await world.dump()
    assert await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT])]) == [True]
    assert changed(before, await world.dump()) == agent_index(keys.SESSION)
    assert (await world.reader.presences([AGENT]))[0].present


async def test_only_the_latest_session_is_renewed(world: StoreWorld) -> None:
    old = (await world.attach()).epoch
    latest = (await world.attach()).epoch
    await world.attach("gone")
    await world.sessions.detach([("gone", world.epochs["gone"])])
    before = await world.dump()
    stale = [(AGENT, old), (AGENT, latest + 1), ("gone", world.epochs["gone"]), ("never", 1)]
    assert await world.sessions.heartbeat([Renewal(*one) for one in stale]) == [False] * 4
    assert await world.dump() == before


async def test_an_answer_for_each_in_order(world: StoreWorld) -> None:
    names = [f"agent{number}" for number in range(300)]
    for name in names[::2]:
        await world.attach(name)
    assert await world.sessions.heartbeat([Renewal(name, 1) for name in names]) == [True, False] * 150


async def test_the_session_lives_on(world: StoreWorld) -> None:
    await world.attach()
    key = keys.SESSION.format(agent_id=AGENT)
    await world.connection.call("PEXPIRE", key, 50_000)
    await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT])])
    assert await world.connection.call("PTTL", key) > 50_000


async def test_changed_vitals_are_stored_and_announced(world: StoreWorld) -> None:
    await world.attach()
    for revision, vitals in enumerate((AgentVitals(300, True, (("journal_full", "no room"),)), HEALTHY), 2):
        before = await world.position()
        assert await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT], vitals)]) == [True]
        (agent,) = await world.reader.agents([AGENT])
        assert agent is not None
        assert (agent.handler_lag_ms, agent.draining, agent.problems, agent.revision) == (*vitals, revision)
        assert agent.degraded is bool(vitals.problems)
        assert await world.events(before) == [AgentChanged(AGENT, world.epochs[AGENT], revision, True)]
    before = await world.position()
    await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT])])
    assert await world.events(before) == []


async def test_a_new_session_starts_without_the_vitals_of_the_last(world: StoreWorld) -> None:
    await world.attach()
    await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT], AgentVitals(0, True))])
    await world.attach()
    (agent,) = await world.reader.agents([AGENT])
    assert agent is not None
    assert agent.status is AgentStatus.ONLINE


async def test_an_agent_whose_last_heartbeat_is_old_is_degraded_until_the_next(world: StoreWorld) -> None:
    await world.attach()
    key = keys.SESSION.format(agent_id=AGENT)
    seen = int(await world.connection.call("HGET", key, "last_seen_ms"))
    await world.connection.call("HSET", key, "last_seen_ms", seen - world.policy.late_after_ms)
    (late,) = await world.reader.agents([AGENT])
    await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT])])
    (agent,) = await world.reader.agents([AGENT])
    assert late is not None
    assert agent is not None
    assert (late.status, agent.status) == (AgentStatus.DEGRADED, AgentStatus.ONLINE)


async def started(world: StoreWorld) -> str:
    """A command that its agent has just started."""
    command_id = await world.assigned()
    assert await world.store.progress([Progress(command_id, AGENT, LEASE, 0, 0, 0)]) == [True]
    return command_id


async def progress_ms(world: StoreWorld, command_id: str) -> int:
    details = await world.reader.details(command_id)
    assert details is not None
    return details.state.progress_ms


async def test_a_silent_command_shows_its_last_sign_of_life_until_it_gives_another(world: StoreWorld) -> None:
    command_id, other = await started(world), await world.queued()
    (state,) = await world.reader.states([command_id])
    assert state is not None
    assert state.receipts.started_ms
    before = await world.position()

    async def beat(silences: dict[str, int] | None) -> None:
        renewal = Renewal(AGENT, world.epochs[AGENT], None, silences)
        assert await world.sessions.heartbeat([renewal]) == [True]

    await beat({command_id: 0, other: 0})
    sign = await progress_ms(world, command_id)
    assert 0 <= sign - state.receipts.started_ms < 30_000
    await beat(None)
    assert await progress_ms(world, command_id) == sign
    # A sign of life before the start is one of an earlier attempt.
    await beat({command_id: 60_000})
    assert await progress_ms(world, command_id) == 0
    await beat({command_id: 0})
    assert await progress_ms(world, command_id) >= sign
    await beat({})
    assert await progress_ms(world, command_id) == await progress_ms(world, other) == 0
    assert await world.events(before) == []


async def test_an_ended_command_is_not_silent(world: StoreWorld) -> None:
    command_id = await started(world)
    await world.sessions.heartbeat([Renewal(AGENT, world.epochs[AGENT], None, {command_id: 0})])
    assert await progress_ms(world, command_id) > 0
    await world.store.finish([completion(command_id, CommandStatus.COMPLETED)])
    assert await progress_ms(world, command_id) == 0
