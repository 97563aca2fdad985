"""Replies that wait until what they report is durable."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, cast

import pytest

from distributor.errors import DistributorError, Unavailable
from distributor.model.event import EventBatch
from distributor.store.durability import Durability
from distributor.store.exchanges import MAX_IN_FLIGHT, CallQueue, Exchanges
from distributor.store.functions import Functions
from distributor.store.group_commit import not_durable
from distributor.store.pipelined_connection import PipelinedConnection
from tests.support.own_logs import own_logs
from tests.support.waiting import until

PROOF = ("PROVE",)


class Slow(Durability):
    """Everything is durable once the test says so."""

    def __init__(self) -> None:
        self.proof = PROOF
        self.proofs: list[Any] = []
        self.waiting: list[asyncio.Future[None]] = []

    def covered(self, proof: Any) -> asyncio.Future[None] | None:
        self.proofs.append(proof)
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]


class Connection:
    """Answers calls with their items, at once."""

    def __init__(self) -> None:
        self.sent: list[list[tuple[Any, ...]]] = []
        self.changes = True
        self.lacks_library = False

    def submit(self, commands: Sequence[tuple[Any, ...]]) -> asyncio.Future[list[Any]]:
        self.sent.append(list(commands))
        future: asyncio.Future[list[Any]] = asyncio.get_running_loop().create_future()
        # The replica and how to trim events precede the items.
        future.set_result([b"proof" if command == PROOF else self._reply(command) for command in commands])
        return future

    def _reply(self, command: tuple[Any, ...]) -> Any:
        if self.lacks_library:
            return DistributorError("Function not found")
        position = b"%d-0" % len(self.sent) if self.changes else b""
        return [position, [], [*command[7:]]]


class World:
    def __init__(self) -> None:
        self.durability = Slow()
        self.connection = Connection()
        self.functions = Functions(cast(PipelinedConnection, self.connection), durability=self.durability)
        self.announced: list[EventBatch] = []
        self.functions.on_changes = self.announced.append
        self.exchanges = Exchanges(self.functions)
        self.queues: dict[str, CallQueue[int, int]] = {
            name: self.exchanges.queue(name, lambda items: [*items], lambda items, reply: cast(list[int], reply))
            for name in ("finish", "heartbeat", "claim")
        }

    def submit(self, name: str, *items: int) -> asyncio.Future[list[int]]:
        return asyncio.ensure_future(self.queues[name].submit(items))

    async def waiting(self, count: int) -> None:
        await until(lambda: len(self.durability.waiting) == count)


@pytest.fixture
async def world() -> World:
    return World()


async def test_nothing_is_answered_or_announced_before_it_is_durable(world: World) -> None:
    reply = world.submit("finish", 1)
    await world.waiting(1)
    assert world.durability.proofs == [b"proof"]
    assert not reply.done()
    assert not world.announced
    idle = asyncio.ensure_future(world.exchanges.idle())
    await asyncio.sleep(0)
    assert not idle.done()
    world.durability.waiting[0].set_result(None)
    assert await reply == [1]
    assert [batch.position for batch in world.announced] == ["1-0"]
    await idle


async def test_an_exchange_that_was_sent_without_a_proof_keeps_its_replies(world: World) -> None:
    world.durability.proof = ()
    reply = world.submit("finish", 1)
    await until(lambda: bool(world.connection.sent))
    world.durability.proof = PROOF
    await world.waiting(1)
    assert world.durability.proofs == [None]
    world.durability.waiting[0].set_result(None)
    assert await reply == [1]


async def test_the_next_exchanges_do_not_wait(world: World) -> None:
    replies = []
    for number in range(MAX_IN_FLIGHT + 2):
        replies.append(world.submit("finish", number))
        await world.waiting(number + 1)
    assert len(world.connection.sent) == MAX_IN_FLIGHT + 2
    for waiting in world.durability.waiting:
        waiting.set_result(None)
    assert await asyncio.gather(*replies) == [[number] for number in range(MAX_IN_FLIGHT + 2)]
    assert [batch.position for batch in world.announced] == ["1-0", "2-0", "3-0", "4-0"]


async def test_a_heartbeat_alone_is_answered_at_once(world: World) -> None:
    assert await world.submit("heartbeat", 1) == [1]
    assert not world.durability.proofs


async def test_what_may_be_lost_fails_its_callers_and_is_undone(world: World) -> None:
    undone: list[tuple[list[int], Sequence[int]]] = []
    world.queues["claim"].undo = lambda items, replies: undone.append((items, replies))
    claim, finish = world.submit("claim", 1, 2), world.submit("finish", 3)
    await world.waiting(1)
    world.durability.waiting[0].set_exception(not_durable("the disk is broken"))
    for reply in (claim, finish):
        with pytest.raises(Unavailable, match="may or may not survive"):
            await reply
    assert undone == [([1, 2], [1, 2])]
    assert not world.announced
    await world.exchanges.idle()


async def test_what_is_sent_again_after_loading_the_library_is_undone_as_well(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    undone: list[list[int]] = []
    world.queues["claim"].undo = lambda items, replies: undone.append(items)
    world.connection.lacks_library = True

    async def load() -> None:
        world.connection.lacks_library = False

    monkeypatch.setattr(world.functions, "load", load)
    claim = world.submit("claim", 1)
    await world.waiting(1)
    world.durability.waiting[0].set_result(None)
    await world.waiting(2)
    assert undone == []
    world.durability.waiting[1].set_exception(not_durable("the disk is broken"))
    with pytest.raises(Unavailable, match="may or may not survive"):
        await claim
    assert undone == [[1]]
    await world.exchanges.idle()


async def test_what_cannot_be_undone_fails_its_callers_all_the_same(world: World) -> None:
    def undo(items: list[int], replies: Sequence[int]) -> None:
        raise ValueError("cannot be decoded")

    world.queues["claim"].undo = undo
    with own_logs() as logs:
        claim, finish = world.submit("claim", 1), world.submit("finish", 2)
        await world.waiting(1)
        world.durability.waiting[0].set_exception(not_durable("the disk is broken"))
        for reply in (claim, finish):
            with pytest.raises(Unavailable, match="may or may not survive"):
                await reply
        await world.exchanges.idle()
    assert [line["function"] for line in logs] == ["claim"]


@pytest.mark.parametrize("name", ["check_indexes", "due"])
async def test_a_pass_that_changed_nothing_does_not_wait(world: World, name: str) -> None:
    world.connection.changes = False
    assert await world.functions.call(name, ["7"]) == ["7"]
    assert not world.durability.waiting
    world.connection.changes = True
    call = asyncio.ensure_future(world.functions.call(name, ["8"]))
    await world.waiting(1)
    assert not call.done()
    world.durability.waiting[0].set_result(None)
    assert await call == ["8"]


async def test_single_calls_wait_as_well(world: World) -> None:
    call = asyncio.ensure_future(world.functions.call("cancel", ["7"]))
    await world.waiting(1)
    assert not call.done()
    world.durability.waiting[0].set_result(None)
    assert await call == ["7"]
    call = asyncio.ensure_future(world.functions.call("cancel", ["8"]))
    await world.waiting(2)
    world.durability.waiting[1].set_exception(not_durable("no replica"))
    with pytest.raises(Unavailable, match="no replica"):
        await call
    assert [batch.position for batch in world.announced] == ["1-0"]


async def test_a_caller_who_leaves_disturbs_no_other(world: World) -> None:
    leaving = asyncio.ensure_future(world.functions.call("cancel", ["1"]))
    await world.waiting(1)
    leaving.cancel()
    await asyncio.wait([leaving])
    assert not world.durability.waiting[0].cancelled()
    world.durability.waiting[0].set_result(None)
    await until(lambda: len(world.announced) == 1)


async def test_reads_do_not_wait(world: World) -> None:
    assert await world.functions.read("get_command", ["7"])
    assert world.connection.sent[-1][-1] != PROOF
