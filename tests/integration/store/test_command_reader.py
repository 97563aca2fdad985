from __future__ import annotations

from typing import Any

import pytest

from distributor.model.agent import AgentPresence
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from distributor.store.pipelined_connection import PipelinedConnection
from tests.support.store_world import AGENT, ENCODED, StoreWorld


@pytest.mark.parametrize("status", CommandStatus)
async def test_what_is_known_of_a_command_in_each_status(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status, kind="EXEC", priority=70)
    state, unknown = await world.reader.states([command_id, world.new_id()])
    assert unknown is None
    assert state is not None
    assert (state.agent_id, state.type, state.priority, state.status) == (AGENT, "EXEC", 70, status)
    assert (await world.reader.results([command_id]))[0] is not None or not status.terminal
    assert (await world.details(command_id)).encoded == ENCODED


async def test_all_of_a_command_in_one_call(world: StoreWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    command_id = await world.assigned()
    await world.print_output(command_id, 0, b"some output")
    calls: list[tuple[Any, ...]] = []

    def counted(self: PipelinedConnection, commands: Any) -> Any:
        calls.extend(commands)
        return submit(self, commands)

    submit = PipelinedConnection.submit
    monkeypatch.setattr(PipelinedConnection, "submit", counted)
    details = await world.details(command_id)
    assert len(calls) == 1
    assert details.state == await world.state(command_id)
    assert (details.encoded, details.output_bytes) == (ENCODED, 11)
    assert [details.agent] == await world.reader.presences([AGENT])


@pytest.mark.parametrize("leave", ["detached", "silent"])
async def test_whether_the_agent_of_a_command_is_there(world: StoreWorld, leave: str) -> None:
    command_id = await world.queued()
    assert (await world.details(command_id)).agent == AgentPresence(False, False, 0)
    attached = await world.attach()
    assert (await world.details(command_id)).agent == AgentPresence(True, True, 0)
    if leave == "silent":
        await world.silence()
    else:
        await world.sessions.detach([(AGENT, attached.epoch)])
    agent = (await world.details(command_id)).agent
    assert (agent.known, agent.present) == (True, False)
    assert agent.away_since_ms > 0


async def test_nothing_of_an_unknown_command(world: StoreWorld) -> None:
    unknown = world.new_id()
    assert await world.reader.details(unknown) is None
    assert await world.reader.results([unknown]) == [None]
    assert await world.reader.results([]) == []
    assert await world.reader.presences(["nobody"]) == [AgentPresence(False, False, 0)]


async def test_depth_of_the_queue(world: StoreWorld) -> None:
    assert await world.reader.depth() == (dict.fromkeys(CommandStatus, 0), 0)
    await world.one_of_each()
    old = await world.queued("other")
    hour_ago_us = (await world.now_ms() - 3_600_000) * 1000
    await world.connection.call("ZADD", keys.BY_STATUS.format(status="queued"), hour_ago_us, old)
    depth = await world.reader.depth()
    assert depth.by_status == {status: 1 + (status is CommandStatus.QUEUED) for status in CommandStatus}
    assert 3_600_000 <= depth.oldest_queued_age_ms < 3_610_000


async def test_agents_and_what_they_have(world: StoreWorld) -> None:
    await world.assigned("worker")
    await world.queued("worker")
    await world.attach("silent")
    await world.silence("silent")
    worker, silent = await world.reader.agents(["worker", "silent"])
    assert worker is not None
    assert silent is not None
    assert (worker.present, worker.running, worker.queued) == (True, 1, 1)
    assert (silent.present, silent.running, silent.queued, silent.away_since_ms) == (False, 0, 0, 1)


async def test_ids_of_agents_in_order_a_few_at_a_time(world: StoreWorld) -> None:
    for agent_id in ("b", "B", "a.1", "a-1"):
        await world.attach(agent_id)
    assert await world.reader.agent_ids("", 3) == ["B", "a-1", "a.1"]
    assert await world.reader.agent_ids("a.1", 3) == ["b"]
    assert await world.reader.agent_ids("b", 3) == []
