"""Commands of one caller that have not ended: the limit, and the index by which they are counted."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

import pytest

from distributor.identity.caller import Caller, CallerKind
from distributor.model.command import Reason
from distributor.model.control import PING
from distributor.model.delivery import ClaimRequest, Release
from distributor.model.queueing import NewCommand, QueueOutcome
from distributor.model.requester import Requester
from distributor.store import keys
from tests.support.store_world import AGENT, LEASE, StoreWorld, completion

ADA: Final = Requester("user", "ada", "", "10.0.0.1")
BOB: Final = Requester("service", "bob")
QUEUED, TOO_MANY = QueueOutcome.QUEUED, QueueOutcome.TOO_MANY_COMMANDS


async def counted(world: StoreWorld, principal: str = "user:ada") -> set[str]:
    key = keys.CALLER_COMMANDS.format(principal=principal)
    return {member.decode() for member in await world.connection.call("SMEMBERS", key)}


async def outcomes(world: StoreWorld, *commands: NewCommand) -> list[QueueOutcome]:
    return [answer.outcome for answer in await world.enqueue(*commands)]


async def test_a_caller_may_have_only_so_many(world: StoreWorld) -> None:
    limited = world.under(caller_commands=3)
    new = [limited.new(f"agent{n}", requested_by=ADA) for n in range(5)]
    assert await outcomes(limited, *new) == [QUEUED, QUEUED, QUEUED, TOO_MANY, TOO_MANY]
    assert await counted(world) == {command.command_id for command in new[:3]}
    assert await outcomes(limited, limited.new(requested_by=ADA)) == [TOO_MANY]
    assert await outcomes(limited, limited.new(requested_by=BOB)) == [QUEUED]
    assert await outcomes(limited, *[limited.new() for _ in range(5)]) == [QUEUED] * 5, "nobody known"
    await limited.store.cancel(new[0].command_id, "enough")
    assert await outcomes(limited, limited.new(requested_by=ADA), limited.new(requested_by=ADA)) == [QUEUED, TOO_MANY]


async def test_a_refused_command_leaves_nothing(world: StoreWorld) -> None:
    limited = world.under(caller_commands=1)
    await limited.queued(requested_by=ADA)
    before = await world.dump()
    assert await outcomes(limited, limited.new(requested_by=ADA, idempotency_key="k", digest="d")) == [TOO_MANY]
    assert await world.dump() == before


async def test_a_known_request_is_answered_beyond_the_limit(world: StoreWorld) -> None:
    limited = world.under(caller_commands=1)
    (first,) = await limited.enqueue(limited.new(requested_by=ADA, idempotency_key="k", digest="d"))
    (again,) = await limited.enqueue(limited.new(requested_by=ADA, idempotency_key="k", digest="d"))
    assert (again.outcome, again.command_id) == (QueueOutcome.ALREADY_QUEUED, first.command_id)


async def test_control_commands_count_and_are_not_refused(world: StoreWorld) -> None:
    limited = world.under(caller_commands=1)
    assert await outcomes(limited, *[limited.new(kind=PING, requested_by=ADA) for _ in range(2)]) == [QUEUED] * 2
    assert len(await counted(world)) == 2
    assert await outcomes(limited, limited.new(requested_by=ADA)) == [TOO_MANY]


async def test_a_command_dropped_from_a_full_queue_makes_room(world: StoreWorld) -> None:
    limited = world.under(caller_commands=2, queue_limit=1, queue_full="drop")
    dropped = await limited.queued(requested_by=ADA)
    new = [limited.new(requested_by=ADA), limited.new("other", requested_by=ADA), limited.new("more", requested_by=ADA)]
    assert await outcomes(limited, *new) == [QUEUED, QUEUED, TOO_MANY]
    assert dropped not in await counted(world)
    assert await counted(world) == {new[0].command_id, new[1].command_id}


@pytest.mark.parametrize(
    "caller",
    [
        Caller(CallerKind.USER, "ada"),
        Caller(CallerKind.SERVICE, "bridge", on_behalf_of="ada", address="::1"),
        Caller(CallerKind.SERVICE, "spiffe:billing:eu {1}"),
        Caller(CallerKind.USER, "Grüße:x"),
    ],
    ids=["user", "on behalf", "colons", "not ASCII"],
)
async def test_commands_count_for_their_principal(world: StoreWorld, caller: Caller) -> None:
    command_id = await world.queued(requested_by=caller.requester())
    assert await counted(world, caller.principal) == {command_id}
    assert [repairs async for repairs in world.index_checker.sweep() if repairs] == []
    await world.connection.call("DEL", keys.CALLER_COMMANDS.format(principal=caller.principal))
    assert [one.subject async for repairs in world.index_checker.sweep() for one in repairs] == [command_id]
    assert await counted(world, caller.principal) == {command_id}


async def _cancelled(world: StoreWorld) -> None:
    await world.store.cancel(await world.queued(requested_by=ADA), "enough")


async def _expired(world: StoreWorld) -> None:
    await world.pass_deadline(await world.queued(requested_by=ADA))
    await world.store.due([0])


async def _reported(world: StoreWorld) -> None:
    command_id = await world.acknowledged(requested_by=ADA)
    await world.store.finish([completion(command_id)])


async def _overrun(world: StoreWorld) -> None:
    await world.pass_deadline(await world.acknowledged(requested_by=ADA))
    await world.store.due([0])


async def _exhausted(world: StoreWorld) -> None:
    command_id = await world.assigned(requested_by=ADA)
    await world.under(delivery_attempts=1).store.release(
        [Release(command_id, AGENT, LEASE, 0, Reason("busy", "?"), refused=True)]
    )


async def _cancelled_by_its_agent(world: StoreWorld) -> None:
    command_id = await world.assigned(requested_by=ADA)
    await world.store.cancel(command_id, "enough")
    await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason("busy", "?"), refused=True)])


async def _lost(world: StoreWorld) -> None:
    await world.attach()
    command_id = await world.queued(requested_by=ADA)
    await world.connection.call("DEL", keys.COMMAND.format(command_id=command_id))
    await world.claim()


async def _lost_and_checked(world: StoreWorld) -> None:
    command_id = await world.queued(requested_by=ADA)
    await world.connection.call("DEL", keys.COMMAND.format(command_id=command_id))
    assert [repairs async for repairs in world.index_checker.sweep() if repairs]


async def _outdated(world: StoreWorld) -> None:
    await world.queued(kind="STOP", requested_by=ADA)
    await world.attach(instance_id="later")
    await world.store.claim([ClaimRequest(AGENT, world.epochs[AGENT], 1, LEASE, 4)])


@pytest.mark.parametrize(
    "end",
    [
        _cancelled,
        _expired,
        _reported,
        _overrun,
        _exhausted,
        _cancelled_by_its_agent,
        _lost,
        _lost_and_checked,
        _outdated,
    ],
)
async def test_whatever_ends_a_command_uncounts_it(
    world: StoreWorld, end: Callable[[StoreWorld], Awaitable[None]]
) -> None:
    await end(world)
    ended = await world.connection.call("LRANGE", keys.ENDED, 0, -1)
    assert len(ended) == 1
    assert await counted(world) == set()


async def test_a_command_counts_until_it_ends(world: StoreWorld) -> None:
    command_id = await world.assigned(requested_by=ADA)
    assert await counted(world) == {command_id}
    await world.store.release([Release(command_id, AGENT, LEASE, 0, Reason("busy", "?"), refused=True)])
    assert await counted(world) == {command_id}
    await world.claim()
    assert await counted(world) == {command_id}


async def test_entries_that_do_not_belong_there_go(world: StoreWorld) -> None:
    await world.attach()
    own, ended = await world.queued("other", requested_by=ADA), await world.queued(requested_by=ADA)
    await world.store.cancel(ended, "enough")
    unknown, of_another = await world.queued("other"), await world.queued("other", requested_by=BOB)
    key = keys.CALLER_COMMANDS.format(principal="user:ada")
    await world.connection.call("SADD", key, ended, unknown, of_another, "no-such-command")
    found: dict[str, Any] = {one.subject: one.kind async for repairs in world.index_checker.sweep() for one in repairs}
    assert found == {
        ended: "ended_in_index",
        unknown: "wrong_index",
        of_another: "wrong_index",
        "no-such-command": "index_without_record",
    }
    assert await counted(world) == {own}
