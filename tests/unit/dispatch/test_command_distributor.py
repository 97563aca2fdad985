"""One look of the distributor: who is asked for, and where what was claimed goes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from distributor.dispatch import command_distributor
from distributor.dispatch.agent_registry import AgentRegistry, CloseReason
from distributor.dispatch.command_distributor import MAX_OFFERS, CommandDistributor
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import Unavailable
from distributor.model.delivery import Claim, ClaimedCommand, ClaimRequest
from distributor.observability.metrics import Metrics
from tests.support.memory_stores import MemoryAgent, MemoryStore
from tests.support.serving_agent import background
from tests.support.waiting import until


class World:
    """A distributor over ports in memory."""

    def __init__(self, *agents: MemoryAgent, **options: Any) -> None:
        self.store = MemoryStore()
        self.wakeups = Wakeups()
        self.registry = AgentRegistry(Metrics())
        for agent in agents:
            self.registry.add(agent)
        self.distributor = CommandDistributor(self.store, self.registry, self.wakeups, Metrics(), **options)

    async def look(self, *agent_ids: str) -> int:
        return await self.distributor.run_once(agent_ids)


async def test_it_claims_as_much_as_an_agent_has_room_for() -> None:
    agent = MemoryAgent(capacity=3)
    world = World(agent)
    world.store.add("agent123", "c1", "c2", "c3", "c4")
    assert await world.look("agent123") == 3
    assert agent.command_ids == ["c1", "c2", "c3"]
    assert world.store.claims[0].max_commands == 3
    assert await world.look("agent123") == 0
    agent.session.ended("c2", agent.session.in_flight["c2"].lease_id)
    assert await world.look("agent123") == 1
    assert agent.command_ids == ["c1", "c2", "c3", "c4"]


async def test_it_claims_at_most_a_batch_and_looks_again_at_once() -> None:
    agent = MemoryAgent(capacity=100)
    world = World(agent)
    world.store.add("agent123", *(f"c{n}" for n in range(30)))
    assert await world.look("agent123") == 20
    assert world.wakeups.take() == {"agent123"}
    assert await world.look("agent123") == 10
    assert world.wakeups.take() == set()


async def test_a_large_claim_may_have_been_cut_short_so_it_looks_again() -> None:
    agent = MemoryAgent(capacity=100)
    world = World(agent)
    world.store.add("agent123", "c1", encoded=bytes(command_distributor.LARGE_CLAIM_BYTES))
    await world.look("agent123")
    assert world.wakeups.take() == {"agent123"}


async def test_what_comes_while_there_is_no_room_is_remembered() -> None:
    agent = MemoryAgent(capacity=1)
    world = World(agent)
    world.store.add("agent123", "c1")
    await world.look("agent123")
    assert not world.store.waiting["agent123"]
    await world.look("agent123")
    assert agent.session.more_waiting


async def test_agents_that_are_not_here_or_have_no_room_are_not_asked_for() -> None:
    draining = MemoryAgent("draining")
    draining.session.ending = True
    world = World(draining)
    assert await world.look("draining", "elsewhere") == 0
    assert world.store.claims == []


async def test_all_agents_are_asked_for_in_one_call_and_each_comes_first_in_its_turn() -> None:
    world = World(*(MemoryAgent(name, capacity=100) for name in "abc"))
    firsts = []
    for _ in range(3):
        await world.look("a", "b", "c")
        firsts.append(world.store.claims[-3].agent_id)
    assert sorted(firsts) == ["a", "b", "c"]
    assert len({request.lease_id for request in world.store.claims}) == 9


async def test_a_session_that_was_superseded_is_ended() -> None:
    agent = MemoryAgent(epoch=1)
    world = World(agent)
    world.store.epochs["agent123"] = 2
    world.store.add("agent123", "c1")
    assert await world.look("agent123") == 0
    assert agent.farewells == [CloseReason.SUPERSEDED]
    assert len(world.store.waiting["agent123"]) == 1


async def test_what_a_stream_that_is_ending_cannot_take_is_released() -> None:
    agent = MemoryAgent()
    agent.ending = True
    world = World(agent)
    world.store.add("agent123", "c1")
    await world.look("agent123")
    (release,) = world.store.released
    assert (release.command_id, release.lease_id) == ("c1", world.store.claims[0].lease_id)
    assert (release.delay_ms, release.reason.code) == (0, "not_delivered")


@pytest.mark.parametrize("came_back", [True, False])
async def test_what_was_claimed_for_a_session_that_is_gone_goes_to_no_other(came_back: bool) -> None:
    old, new = MemoryAgent(epoch=1), MemoryAgent(epoch=2)
    world = World(old)
    world.store.add("agent123", "c1")

    async def claim(requests: Sequence[ClaimRequest]) -> list[Claim]:
        claims = await MemoryStore.claim(world.store, requests)
        # Meanwhile, before the answer is dealt with:
        world.registry.remove(old)
        if came_back:
            world.registry.add(new)
        return claims

    world.store.claim = claim  # type: ignore[method-assign]
    await world.look("agent123")
    assert old.delivered == new.delivered == []
    assert [release.command_id for release in world.store.released] == ["c1"]


async def test_the_loop_looks_when_the_bell_rings() -> None:
    agent = MemoryAgent()
    world = World(agent, polling_interval=3_600.0)
    async with background(world.distributor.run()):
        await until(lambda: world.store.claims)
        world.store.add("agent123", "c1")
        world.wakeups.wake("agent123")
        await until(lambda: agent.command_ids == ["c1"])


async def test_the_loop_polls_all_agents() -> None:
    world = World(MemoryAgent("a"), MemoryAgent("b"), polling_interval=0.01)
    async with background(world.distributor.run()):
        await until(lambda: len(world.store.claims) >= 6)
        assert {request.agent_id for request in world.store.claims} == {"a", "b"}


async def test_the_loop_goes_on_after_valkey_was_away() -> None:
    agent = MemoryAgent()
    world = World(agent, polling_interval=3_600.0)
    world.distributor.wait_after_failure_seconds = 0.001
    world.store.add("agent123", "c1")
    world.store.away = True
    with pytest.raises(Unavailable):
        await world.look("agent123")
    async with background(world.distributor.run()):
        await until(lambda: world.store.failures >= 3)
        world.store.away = False
        # Nobody rings again: what it was woken for is not forgotten.
        await until(lambda: agent.command_ids == ["c1"])


async def test_an_agent_without_room_is_asked_for_only_where_control_work_may_wait() -> None:
    agent = MemoryAgent(capacity=1)
    world = World(agent)
    agent.session.claimed("c1", "lease", 1, 0.0)
    await world.distributor.run_once(["agent123"])
    assert world.store.claims == []
    await world.distributor.run_once(["agent123"], {"agent123"})
    assert [(claim.max_commands, claim.max_control) for claim in world.store.claims] == [(0, 4)]


async def test_control_commands_left_behind_are_claimed_when_others_ended_during_the_claim() -> None:
    agent = MemoryAgent(capacity=1)
    world = World(agent)
    world.store.add("agent123", "p1", "p2", "p3", "p4", "p5", control=True)
    await world.look("agent123")
    assert agent.command_ids == ["p1", "p2", "p3", "p4"]
    assert world.wakeups.take_control() == set()
    agent.session.ended("p1", agent.session.in_flight["p1"].lease_id)
    world.store.add("agent123", "p6", control=True)

    async def claim(requests: Sequence[ClaimRequest]) -> list[Claim]:
        claims = await MemoryStore.claim(world.store, requests)
        agent.session.ended("p2", agent.session.in_flight["p2"].lease_id)
        return claims

    world.store.claim = claim  # type: ignore[method-assign]
    await world.look("agent123")
    assert agent.command_ids[-1] == "p5"
    assert world.wakeups.take_control() == {"agent123"}


async def test_control_work_that_comes_while_its_room_is_full_is_remembered() -> None:
    agent = MemoryAgent(capacity=1)
    world = World(agent)
    world.store.add("agent123", "p1", "p2", "p3", "p4", control=True)
    await world.look("agent123")
    agent.session.control_waiting = False
    await world.distributor.run_once(["agent123"], {"agent123"})
    assert agent.session.control_waiting


async def test_it_claims_at_once_for_those_attached_here() -> None:
    agent = MemoryAgent()
    world = World(agent)
    world.store.add("agent123", "c1")
    world.distributor.claim_now({"agent123", "elsewhere"})
    assert [request.agent_id for request in world.store.claims] == ["agent123"]
    await world.distributor.idle()
    assert agent.command_ids == ["c1"]
    assert agent.session.credit == 4


async def test_claims_under_way_keep_their_room() -> None:
    agent = MemoryAgent(capacity=30)
    world = World(agent)
    world.store.add("agent123", *(f"c{number}" for number in range(40)))
    for _ in range(3):
        world.distributor.claim_now({"agent123"})
    assert [request.max_commands for request in world.store.claims] == [20, 10]
    await world.distributor.idle()
    assert len(agent.command_ids) == 30
    assert agent.session.credit == 0


async def test_what_comes_while_a_claim_has_all_the_room_is_looked_for_again() -> None:
    """The claim under way may have come before it."""
    agent = MemoryAgent(capacity=1)
    world = World(agent)
    world.distributor.claim_now({"agent123"})
    world.store.add("agent123", "c1")
    world.distributor.claim_now({"agent123"})
    assert len(world.store.claims) == 1
    await world.distributor.idle()
    assert world.wakeups.take() == {"agent123"}
    await world.look("agent123")
    assert agent.command_ids == ["c1"]
    assert world.wakeups.take() == set()


async def test_a_control_command_that_comes_during_a_claim_is_looked_for_again() -> None:
    agent = MemoryAgent(capacity=100)
    world = World(agent)
    world.distributor.claim_now({"agent123"})
    world.store.add("agent123", "p1", control=True)
    world.distributor.claim_now({"agent123"}, {"agent123"})
    await world.distributor.idle()
    assert world.wakeups.take_control() == {"agent123"}


async def test_a_claim_that_fails_is_left_to_the_loop_and_frees_its_room() -> None:
    agent = MemoryAgent()
    world = World(agent)
    world.store.away = True
    world.distributor.claim_now({"agent123"})
    await world.distributor.idle()
    assert world.wakeups.take() == {"agent123"}
    assert agent.session.credit == 5


@pytest.mark.parametrize("at_once", [True, False])
async def test_compressed_commands_are_delivered_plain(at_once: bool) -> None:
    agent = MemoryAgent()
    world = World(agent)
    world.store.packed = True
    world.store.add("agent123", "c1", encoded=b"c1")
    if at_once:
        world.distributor.claim_now({"agent123"})
        await world.distributor.idle()
    else:
        await world.look("agent123")
    (claim,) = agent.delivered
    assert [command.encoded for command in claim.commands] == [b"plain c1"]
    assert agent.session.credit == 4


async def test_what_a_claim_brings_for_a_stream_that_has_gone_is_released() -> None:
    agent = MemoryAgent()
    world = World(agent)
    world.store.add("agent123", "c1")
    world.distributor.claim_now({"agent123"})
    world.registry.remove(agent)
    await world.distributor.idle()
    assert agent.delivered == []
    assert [release.command_id for release in world.store.released] == ["c1"]
    assert world.wakeups.take() == set()


async def test_a_release_that_fails_is_left_to_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    agent = MemoryAgent()
    world = World(agent)
    world.store.add("agent123", "c1")

    async def fail(_: object) -> None:
        raise Unavailable("Valkey is away")

    monkeypatch.setattr(world.store, "release", fail)
    world.distributor.claim_now({"agent123"})
    world.registry.remove(agent)
    await world.distributor.idle()
    assert world.wakeups.take() == {"agent123"}


async def test_under_load_it_waits_for_more() -> None:
    agent = MemoryAgent(capacity=1_000)
    world = World(agent, batch_size=1_000)
    world.store.add("agent123", *(f"c{number}" for number in range(400)))
    world.store.busy = True
    world.distributor.claim_now({"agent123"})
    assert (world.store.claims, world.wakeups.take()) == ([], {"agent123"})


async def test_a_claim_that_fails_keeps_nothing_from_the_agents_of_another(monkeypatch: pytest.MonkeyPatch) -> None:
    agents = [MemoryAgent(f"agent{number}") for number in range(MAX_OFFERS + 1)]
    world = World(*agents)
    for agent in agents:
        world.store.add(agent.session.agent_id, f"c-{agent.session.agent_id}")
    claim = world.store.claim

    async def fail_if_large(requests: Sequence[ClaimRequest]) -> list[Claim]:
        if len(requests) == MAX_OFFERS:
            raise Unavailable("Valkey is away")
        return await claim(requests)

    with monkeypatch.context() as patched:
        patched.setattr(world.store, "claim", fail_if_large)
        with pytest.raises(Unavailable):
            await world.look(*(agent.session.agent_id for agent in agents))
    served = [agent for agent in agents if agent.delivered]
    assert len(served) == 1
    assert all(agent.session.credit == 5 for agent in agents if agent not in served)
    assert await world.look(*(agent.session.agent_id for agent in agents)) == MAX_OFFERS


class Clock:
    """The time of the distributor, in seconds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        monkeypatch.setattr(command_distributor, "time", self)

    def monotonic(self) -> float:
        return self.seconds


def short_lived() -> MemoryAgent:
    """An agent whose Hello was read at 0, and for which commands may be claimed for 10 s."""
    agent = MemoryAgent()
    agent.session.fresh_for_ms = 10_000.0
    return agent


async def test_nothing_is_claimed_for_an_agent_whose_heartbeat_is_too_old(monkeypatch: pytest.MonkeyPatch) -> None:
    clock, agent = Clock(monkeypatch), short_lived()
    world = World(agent)
    world.store.add("agent123", "c1")
    clock.seconds = 10.0
    assert await world.look("agent123") == 0
    assert world.store.claims == []
    assert agent.session.takes_waiting, "the next heartbeat claims"
    agent.session.heartbeat(1, 5, 0, 10_000.0)
    assert await world.look("agent123") == 1


@pytest.mark.parametrize("heartbeat_came", [True, False])
async def test_what_is_claimed_too_late_to_start_goes_back_and_is_claimed_after_a_heartbeat(
    monkeypatch: pytest.MonkeyPatch, heartbeat_came: bool
) -> None:
    clock, agent = Clock(monkeypatch), short_lived()
    world = World(agent)
    world.store.add("agent123", "c1")
    claim = world.store.claim

    async def slow(requests: Sequence[ClaimRequest]) -> list[Claim]:
        clock.seconds = 10.0
        if heartbeat_came:
            agent.session.heartbeat(1, 5, 0, 9_000.0)
        return await claim(requests)

    monkeypatch.setattr(world.store, "claim", slow)
    await world.look("agent123")
    assert agent.delivered == []
    (released,) = world.store.released
    assert (released.command_id, released.counts) == ("c1", False)
    assert world.wakeups.take() == ({"agent123"} if heartbeat_came else set())


async def test_a_heavy_command_that_does_not_fit_is_not_claimed_for_until_it_does() -> None:
    agent = MemoryAgent(capacity=3)
    world = World(agent)
    world.store.add("agent123", "a", "b")
    world.store.waiting["agent123"].append(ClaimedCommand("heavy", 1, b"", slots=2))
    world.store.add("agent123", "light")
    assert await world.look("agent123") == 2
    assert agent.command_ids == ["a", "b"]
    session = agent.session
    assert (session.credit, session.needed_slots, session.takes_waiting) == (1, 2, False)
    assert world.wakeups.take() == set()
    session.ended("a", session.in_flight["a"].lease_id)
    assert session.takes_waiting
    assert await world.look("agent123") == 1
    assert agent.command_ids == ["a", "b", "heavy"]
    assert (session.credit, session.needed_slots) == (0, 0)


async def test_a_command_heavier_than_a_batch_is_claimed_by_the_next_offer() -> None:
    agent = MemoryAgent(capacity=100)
    world = World(agent)
    world.store.waiting["agent123"].append(ClaimedCommand("heavy", 1, b"", slots=50))
    assert await world.look("agent123") == 0
    assert world.wakeups.take() == {"agent123"}
    assert await world.look("agent123") == 1
    assert agent.session.credit == 50
    world.wakeups.take()
    assert await world.look("agent123") == 0
    assert world.wakeups.take() == set()


async def test_a_claim_that_used_all_its_slots_may_have_left_commands() -> None:
    agent = MemoryAgent(capacity=100)
    world = World(agent)
    world.store.waiting["agent123"].append(ClaimedCommand("heavy", 1, b"", slots=20))
    world.store.add("agent123", "light")
    assert await world.look("agent123") == 1
    assert world.wakeups.take() == {"agent123"}
    assert await world.look("agent123") == 1
