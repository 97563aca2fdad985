from __future__ import annotations

import pytest

from distributor.model.agent import HeldCommand
from distributor.model.delivery import CompletionOutcome, Extension, Progress
from distributor.model.event import CommandChanged, EventKind
from distributor.model.lifecycle import CommandStatus
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, changed, completion, own_keys

LIMIT_MS = 70_000
LONGER_MS = 600_000


async def started(world: StoreWorld) -> str:
    command_id = await world.assigned(time_limit_ms=LIMIT_MS)
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, 3)])
    return command_id


def extension(command_id: str, limit_ms: int = LONGER_MS, agent_id: str = AGENT, lease_id: str = LEASE) -> Extension:
    return Extension(command_id, agent_id, lease_id, limit_ms)


@pytest.mark.parametrize("status", CommandStatus)
async def test_only_an_assigned_command_is_extended(world: StoreWorld, status: CommandStatus) -> None:
    command_id = await world.command(status, time_limit_ms=LIMIT_MS)
    before = await world.dump()
    answer = await world.store.extend([extension(command_id)])
    after = await world.dump()
    if status is not CommandStatus.ASSIGNED:
        assert answer == [False]
        assert after == before
        return
    assert answer == [True]
    assert changed(before, after) == {*own_keys(command_id, keys.STATUS), keys.DEADLINES, keys.EVENTS}


async def test_limit_deadline_and_what_is_shown_change(world: StoreWorld) -> None:
    command_id = await started(world)
    position, before = await world.position(), await world.state(command_id)
    assert (await world.details(command_id)).extended_ms is None
    assert await world.store.extend([extension(command_id)]) == [True]
    state = await world.state(command_id)
    assert await world.deadline(command_id) == state.receipts.started_ms + LONGER_MS + world.policy.run_limit_slack_ms
    assert (await world.details(command_id)).extended_ms == LONGER_MS
    (event,) = await world.events(position)
    assert isinstance(event, CommandChanged)
    assert (event.kind, event.revision) == (EventKind.EXTENDED, before.revision + 1)
    assert state == before._replace(revision=event.revision)


async def test_a_limit_never_becomes_shorter(world: StoreWorld) -> None:
    command_id = await started(world)
    assert await world.store.extend([extension(command_id), extension(command_id, LONGER_MS - 1)]) == [True, False]
    before = await world.dump()
    assert await world.store.extend([extension(command_id), extension(command_id, 1)]) == [False, False]
    assert await world.dump() == before
    await world.connection.call("ZADD", keys.DEADLINES, 2**52, command_id)
    assert await world.store.extend([extension(command_id, 2 * LONGER_MS)]) == [True]
    assert await world.deadline(command_id) == 2**52, "a reattached agent has moved its deadline"


@pytest.mark.parametrize(
    ("agent_id", "lease_id"), [("other", LEASE), (AGENT, "lease0"), (AGENT, ""), ("", LEASE)], ids=repr
)
async def test_another_agent_or_lease_changes_nothing(world: StoreWorld, agent_id: str, lease_id: str) -> None:
    command_id = await started(world)
    before = await world.dump()
    strange = [
        extension(command_id, agent_id=agent_id, lease_id=lease_id),
        extension(world.new_id(), agent_id=agent_id, lease_id=lease_id),
    ]
    assert await world.store.extend(strange) == [False, False]
    assert await world.dump() == before


async def test_an_extension_survives_a_reattach(world: StoreWorld) -> None:
    command_id = await started(world)
    await world.store.extend([extension(command_id)])
    earliest = await world.now_ms() + LONGER_MS + world.policy.run_limit_slack_ms
    await world.attach(held=(HeldCommand(command_id, LEASE),))
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert deadline >= earliest


async def test_an_overrun_names_the_extended_limit(world: StoreWorld) -> None:
    command_id = await started(world)
    await world.store.extend([extension(command_id)])
    await world.pass_deadline(command_id)
    await world.store.due([0])
    state = await world.state(command_id)
    assert state.status is CommandStatus.TIMEOUT
    assert state.reason.message.endswith("within the time limit of 600 s")


async def test_the_next_run_has_the_limit_it_was_queued_with(world: StoreWorld) -> None:
    command_id = await world.assigned(time_limit_ms=LIMIT_MS, max_runs=2)
    await world.store.progress([Progress(command_id, AGENT, LEASE, 1, 2, 3)])
    await world.store.extend([extension(command_id)])
    failed = completion(command_id, CommandStatus.FAILED, rerun_delay_ms=0, ran=True)
    assert await world.store.finish([failed]) == [CompletionOutcome.RUN_AGAIN]
    assert (await world.details(command_id)).extended_ms is None
    await world.claim(lease_id="lease2")
    latest = await world.now_ms() + LIMIT_MS + world.policy.run_limit_slack_ms
    await world.store.progress([Progress(command_id, AGENT, "lease2", 1, 2, 3)])
    deadline = await world.deadline(command_id)
    assert deadline is not None
    assert deadline < latest + LIMIT_MS
