"""What travels together, in which order, and who gets which reply."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, cast

import pytest

from distributor.errors import DistributorError, Unavailable
from distributor.model.event import EventBatch
from distributor.store import exchanges
from distributor.store.exchanges import (
    BUSY,
    ENOUGH_ITEMS,
    MAX_IN_FLIGHT,
    MAX_ITEMS_PER_CALL,
    ORDER,
    CallQueue,
    Exchanges,
)
from distributor.store.functions import FunctionCall, Functions
from tests.support.own_logs import own_logs
from tests.support.waiting import until

MISSING = DistributorError("Function not found", reason="STORE_ERROR")


class Wire(Functions):
    """Answers each item with its double, when the test says so."""

    def __init__(self) -> None:
        super().__init__(cast(Any, None))
        self.sent: list[list[FunctionCall]] = []
        self.waiting: list[asyncio.Future[list[Any]]] = []
        self.loaded = 0
        self.errors: dict[str, DistributorError] = {}
        self.events: dict[str, list[bytes]] = {}
        self.failures: list[str] = []

    @property
    def items(self) -> list[list[tuple[str, list[int]]]]:
        """What was sent: the functions of each exchange with their items."""
        return [[(call.name, [int(one) for one in call.arguments]) for call in calls] for calls in self.sent]

    async def load(self) -> None:
        self.loaded += 1

    def submit(self, calls: Sequence[FunctionCall]) -> asyncio.Future[list[Any]]:
        self.sent.append(list(calls))
        self.waiting.append(asyncio.get_running_loop().create_future())
        return self.waiting[-1]

    def note_failure(self, name: str) -> None:
        self.failures.append(name)

    def answer(self, place: int = 0) -> None:
        """Answer the exchange sent at this place of those that wait."""
        future = self.waiting.pop(place)
        calls = self.sent[len(self.sent) - len(self.waiting) - 1 + place]
        future.set_result(
            [
                self.errors.get(call.name)
                or [b"1-0" if events else b"", events, [2 * int(one) for one in call.arguments]]
                for call in calls
                for events in (self.events.get(call.name, []),)
            ]
        )

    def fail(self, error: Exception) -> None:
        self.waiting.pop(0).set_exception(error)


class World:
    """The queues of all functions over one wire."""

    def __init__(self) -> None:
        self.wire = Wire()
        self.exchanges = Exchanges(self.wire)
        self.queues: dict[str, CallQueue[int, int]] = {
            name: self.exchanges.queue(name, lambda items: [*items], lambda items, reply: cast(list[int], reply))
            for name in reversed(ORDER)
        }

    def submit(self, name: str, *items: int) -> asyncio.Future[list[int]]:
        return asyncio.ensure_future(self.queues[name].submit(items))


@pytest.fixture
async def world() -> World:
    return World()


async def turns() -> None:
    """Let everything run until it waits."""
    for _ in range(4):
        await asyncio.sleep(0)


async def test_what_is_submitted_in_one_turn_travels_together_in_the_order_of_functions(world: World) -> None:
    replies = [world.submit(name, number) for number, name in enumerate(reversed(ORDER))]
    await turns()
    assert world.wire.items == [[(name, [len(ORDER) - 1 - place]) for place, name in enumerate(ORDER)]]
    world.wire.answer()
    assert await asyncio.gather(*replies) == [[2 * number] for number in range(len(ORDER))]


def test_a_claim_comes_behind_what_is_queued_and_what_makes_room() -> None:
    assert ORDER[-2:] == ("enqueue", "claim")
    assert ORDER.index("progress") < ORDER.index("append_output") < ORDER.index("finish")


async def test_nothing_is_not_sent(world: World) -> None:
    assert await world.submit("claim") == []
    assert world.wire.sent == []


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls gather for so long that no busy machine sees them sent too early."""
    monkeypatch.setattr(exchanges, "GATHER_SECONDS", 0.5)


@pytest.mark.usefixtures("patient")
async def test_with_many_commands_in_progress_calls_of_several_turns_travel_together(world: World) -> None:
    world.exchanges.concurrency.began(BUSY, time.monotonic())
    replies = []
    for number in range(3):
        replies.append(world.submit("enqueue", number))
        await turns()
    assert world.wire.sent == []
    await until(lambda: bool(world.wire.sent))
    world.wire.answer()
    assert await asyncio.gather(*replies) == [[0], [2], [4]]
    assert world.wire.items == [[("enqueue", [0, 1, 2])]]


async def test_calls_that_wait_for_answers_make_it_busy_and_batches_count_once(world: World) -> None:
    replies = [world.submit("enqueue", number, number) for number in range(BUSY - 1)]
    await turns()
    seen = [world.exchanges.busy]
    replies.append(world.submit("finish", BUSY))
    await turns()
    seen.append(world.exchanges.busy)
    for _ in range(2):
        await until(lambda: bool(world.wire.waiting))
        world.wire.answer()
    await asyncio.gather(*replies)
    seen.append(world.exchanges.busy)
    assert seen == [False, True, False]


async def test_failed_calls_leave_it_idle(world: World) -> None:
    replies = [world.submit("enqueue", number) for number in range(BUSY)]
    await turns()
    world.wire.fail(Unavailable("Valkey is away"))
    assert all(isinstance(one, Unavailable) for one in await asyncio.gather(*replies, return_exceptions=True))
    assert not world.exchanges.busy


@pytest.mark.usefixtures("patient")
async def test_enough_calls_do_not_wait_for_more(world: World) -> None:
    world.exchanges.concurrency.began(BUSY, time.monotonic())
    first, second = list(range(ENOUGH_ITEMS - 1)), [ENOUGH_ITEMS]
    world.submit("enqueue", *first)
    await turns()
    assert world.wire.sent == []
    world.submit("finish", *second)
    await turns()
    assert world.wire.items == [[("finish", second), ("enqueue", first)]]


async def test_while_exchanges_are_in_flight_more_gathers_for_the_next(world: World) -> None:
    replies = []
    for number in range(MAX_IN_FLIGHT + 3):
        replies.append(world.submit("enqueue", number))
        await turns()
    assert world.wire.items == [[("enqueue", [number])] for number in range(MAX_IN_FLIGHT)]
    world.wire.answer()
    await turns()
    later = [MAX_IN_FLIGHT + number for number in range(3)]
    assert world.wire.items[MAX_IN_FLIGHT:] == [[("enqueue", later)]]
    while world.wire.waiting:
        world.wire.answer()
        await turns()
    assert await asyncio.gather(*replies) == [[2 * number] for number in range(MAX_IN_FLIGHT + 3)]


async def test_a_call_has_a_bounded_number_of_items_and_a_large_one_is_split(world: World) -> None:
    small, large = world.submit("finish", *range(200)), world.submit("finish", *range(600))
    await turns()
    while world.wire.waiting:
        world.wire.answer()
        await turns()
    assert [[len(items) for _, items in exchange] for exchange in world.wire.items] == [[200], [250], [250], [100]]
    assert await small == [2 * number for number in range(200)]
    assert await large == [2 * number for number in range(600)]


async def test_an_error_of_one_function_reaches_its_callers_and_nobody_else(world: World) -> None:
    world.wire.errors["enqueue"] = DistributorError("out of order", reason="STORE_ERROR")
    failing = [world.submit("enqueue", 1), world.submit("enqueue", 2)]
    claimed = world.submit("claim", 3)
    await turns()
    world.wire.answer()
    assert await claimed == [6]
    for future in failing:
        with pytest.raises(DistributorError, match="out of order"):
            await future
    assert world.wire.failures == ["enqueue"]


async def test_a_lost_connection_fails_the_exchange_and_the_next_one_goes_out(world: World) -> None:
    lost = [world.submit("enqueue", 1), world.submit("claim", 2)]
    await turns()
    world.wire.fail(Unavailable("Valkey is away"))
    for future in lost:
        with pytest.raises(Unavailable):
            await future
    later = world.submit("claim", 3)
    await turns()
    world.wire.answer()
    assert await later == [6]


async def test_a_missing_library_is_loaded_and_the_exchange_sent_again(world: World) -> None:
    world.wire.errors = {"enqueue": MISSING, "claim": MISSING}
    replies = [world.submit("enqueue", 1), world.submit("claim", 2)]
    await turns()
    world.wire.answer()
    world.wire.errors = {}
    await turns()
    assert world.wire.loaded == 1
    assert world.wire.items == 2 * [[("enqueue", [1]), ("claim", [2])]]
    world.wire.answer()
    assert await asyncio.gather(*replies) == [[2], [4]]


@pytest.mark.parametrize(("missing", "ran"), [("enqueue", "claim"), ("claim", "enqueue")])
async def test_only_what_has_not_run_is_sent_again(world: World, missing: str, ran: str) -> None:
    """Another replica may load the library between two calls of an exchange, or somebody flush it."""
    world.wire.errors = {missing: MISSING}
    late, done = world.submit(missing, 1), world.submit(ran, 2)
    await turns()
    world.wire.answer()
    world.wire.errors = {}
    assert await done == [4]
    await turns()
    assert world.wire.items[1:] == [[(missing, [1])]]
    world.wire.answer()
    assert await late == [2]
    await world.exchanges.idle()


async def test_a_change_that_cannot_be_reported_is_logged_and_fails_nobody(world: World) -> None:
    def on_changes(batch: EventBatch) -> None:
        raise ValueError("nonsense")

    world.wire.on_changes = on_changes
    world.wire.events["enqueue"] = [b"c1", b'{"event": "output", "agent_id": "a", "end_offset": 1}']
    with own_logs() as logs:
        queued, claimed = world.submit("enqueue", 1), world.submit("claim", 2)
        await turns()
        world.wire.answer()
        assert (await queued, await claimed) == ([2], [4])
    assert [(log["event"], log["function"]) for log in logs] == [("a change could not be reported", "enqueue")]


async def test_a_claim_does_not_overtake_what_was_queued_before_it(world: World) -> None:
    for caller in range(3):
        world.submit("enqueue", *[caller] * (MAX_ITEMS_PER_CALL - 1), caller)
        world.submit("claim", caller)
    await turns()
    full = [[number] * MAX_ITEMS_PER_CALL for number in range(3)]
    assert world.wire.items == [[("enqueue", full[number]), ("claim", [number])] for number in range(MAX_IN_FLIGHT)]
    world.wire.answer()
    await turns()
    assert world.wire.items[-1] == [("enqueue", full[2]), ("claim", [2])]


async def test_what_makes_room_goes_ahead_of_what_is_left_over(world: World) -> None:
    world.submit("enqueue", *range(MAX_ITEMS_PER_CALL + 1))
    world.submit("claim", 1)
    world.submit("finish", 2)
    await turns()
    first, second = world.wire.items
    assert first == [("finish", [2]), ("enqueue", list(range(MAX_ITEMS_PER_CALL)))]
    assert second == [("enqueue", [MAX_ITEMS_PER_CALL]), ("claim", [1])]


async def test_sessions_are_no_sign_of_load(world: World) -> None:
    for number in range(BUSY):
        world.submit("heartbeat", number)
        world.submit("detach", number)
        world.submit("claim", number)
    assert not world.exchanges.busy


async def test_a_call_that_cannot_be_sent_fails_its_callers_and_the_next_one_goes_out(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    def submit(calls: Sequence[FunctionCall]) -> asyncio.Future[list[Any]]:
        raise UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates not allowed")

    with monkeypatch.context() as patched:
        patched.setattr(world.wire, "submit", submit)
        for number in range(MAX_IN_FLIGHT + 1):
            failing = world.submit("enqueue", number)
            await turns()
            with pytest.raises(UnicodeEncodeError):
                await failing
    later = world.submit("claim", 3)
    await turns()
    world.wire.answer()
    assert await later == [6]
    await world.exchanges.idle()


async def test_items_that_cannot_be_encoded_fail_their_callers_and_others_go_out(world: World) -> None:
    def encode(items: list[int]) -> list[Any]:
        if 1 in items:
            raise ValueError("nonsense")
        return [*items]

    exchanges = Exchanges(world.wire)
    queue: CallQueue[int, int] = exchanges.queue("claim", encode, lambda items, reply: cast(list[int], reply))
    failing = asyncio.ensure_future(queue.submit(range(MAX_ITEMS_PER_CALL)))
    sent = asyncio.ensure_future(queue.submit([7]))
    await turns()
    with pytest.raises(ValueError, match="nonsense"):
        await failing
    world.wire.answer()
    assert await sent == [14]
    await exchanges.idle()


async def test_a_library_that_cannot_be_loaded_fails_the_exchange(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def load() -> None:
        raise Unavailable("cannot save")

    monkeypatch.setattr(world.wire, "load", load)
    world.wire.errors = {"enqueue": MISSING}
    reply = world.submit("enqueue", 1)
    await turns()
    world.wire.answer()
    with pytest.raises(Unavailable, match="cannot save"):
        await reply
    await world.exchanges.idle()


async def test_a_caller_that_is_cancelled_disturbs_nobody(world: World) -> None:
    leaving, patient = world.submit("enqueue", 1), world.submit("enqueue", 2)
    await turns()
    leaving.cancel()
    world.wire.answer()
    assert await patient == [4]
    assert leaving.cancelled()


async def test_a_reply_that_makes_no_sense_reaches_its_callers(world: World) -> None:
    def decode(items: list[int], reply: Any) -> list[int]:
        raise ValueError("nonsense")

    exchanges = Exchanges(world.wire)
    queue: CallQueue[int, int] = exchanges.queue("claim", lambda items: [*items], decode)
    reply = asyncio.ensure_future(queue.submit([1]))
    await turns()
    world.wire.answer()
    with pytest.raises(ValueError, match="nonsense"):
        await reply
    await exchanges.idle()


async def test_idle_waits_for_what_waits_and_what_is_in_flight(world: World) -> None:
    await world.exchanges.idle()
    replies = []
    for number in range(MAX_IN_FLIGHT + 1):
        replies.append(world.submit("claim", number))
        await turns()
    idle = asyncio.create_task(world.exchanges.idle())
    for _ in replies:
        await turns()
        assert not idle.done()
        world.wire.answer()
    await idle
    assert await asyncio.gather(*replies) == [[2 * number] for number in range(MAX_IN_FLIGHT + 1)]
