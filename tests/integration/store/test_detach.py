from __future__ import annotations

import pytest

from distributor.model.event import AgentChanged
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, StoreWorld, agent_index, changed


@pytest.mark.parametrize("status", CommandStatus)
async def test_the_agent_is_away_and_its_commands_are_as_they_were(world: StoreWorld, status: CommandStatus) -> None:
    await world.command(status)
    before, position = await world.dump(), await world.position()
    epoch = world.epochs[AGENT]
    assert await world.sessions.detach([(AGENT, epoch)]) == [True]
    assert changed(before, await world.dump()) == {*agent_index(keys.SESSION), keys.EVENTS}
    (presence,) = await world.reader.presences([AGENT])
    assert (presence.known, presence.present) == (True, False)
    assert abs(presence.away_since_ms - await world.now_ms()) < 10_000
    (event,) = await world.events(position)
    assert event == AgentChanged(AGENT, epoch, 2, connected=False)


async def test_the_end_of_an_old_session_does_not_touch_the_new_one(world: StoreWorld) -> None:
    old = (await world.attach()).epoch
    await world.attach()
    before = await world.dump()
    assert await world.sessions.detach([(AGENT, old), ("never", 1)]) == [False, False]
    assert await world.dump() == before


async def test_once(world: StoreWorld) -> None:
    epoch = (await world.attach()).epoch
    assert await world.sessions.detach([(AGENT, epoch), (AGENT, epoch)]) == [True, False]
    before = await world.dump()
    assert await world.sessions.detach([(AGENT, epoch)]) == [False]
    assert await world.dump() == before


async def test_a_return_clears_since_when_it_was_away(world: StoreWorld) -> None:
    await world.attach()
    await world.sessions.detach([(AGENT, world.epochs[AGENT])])
    await world.attach()
    assert await world.reader.presences([AGENT]) == [(True, True, 0)]
    await world.silence()
    assert await world.reader.presences([AGENT]) == [(True, False, 1)]
