"""Sends the calls of one replica to Valkey together and in order."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from math import inf
from typing import Any, Final, Generic, NamedTuple, TypeVar

from distributor.model.concurrency import Concurrency
from distributor.model.event import Event
from distributor.observability.logging import get_logger
from distributor.store.functions import FunctionCall, Functions, is_missing, no_events
from distributor.store.valkey_connection import Argument

logger = get_logger()

Item = TypeVar("Item")
Reply = TypeVar("Reply")

MAX_ITEMS_PER_CALL: Final = 250
"""Items per function call: enough to share its cost, few enough to block Valkey only for milliseconds."""
MAX_IN_FLIGHT: Final = 2
"""Exchanges in flight: while Valkey works on one, the next is on its way."""
BUSY: Final = 6
"""With this many calls and short commands in progress, waiting for others costs less than the exchanges it saves."""
GATHER_SECONDS: Final = 0.005
"""How long calls wait for others when busy."""
ENOUGH_ITEMS: Final = 100
"""With this many items, an exchange is sent without waiting for more."""
ORDER: Final = (
    "progress",
    "extend",
    "append_output",
    "finish",
    "release",
    "heartbeat",
    "detach",
    "halted",
    "enqueue",
    "claim",
)
"""The order of functions in one exchange: what makes room or queues comes before the claim that may use it."""
UNCOUNTED: Final = frozenset({"heartbeat", "detach", "halted", "claim"})
"""Calls that are no sign of load: sessions come and go without commands, and a claim comes with what it is for."""
TRANSIENT: Final = frozenset({"heartbeat"})
"""Calls whose changes matter only while they are fresh, so that an answer need not wait for them to be durable."""


class CallQueue(Generic[Item, Reply]):
    """Items that wait for the next exchange, and how one function is called for them."""

    def __init__(
        self,
        name: str,
        encode: Callable[[list[Item]], list[Argument]],
        decode: Callable[[list[Item], Any], Sequence[Reply]],
        implied: Callable[[list[Item], Any], Sequence[Event]],
        admit: Callable[[int], int],
        max_items: int = MAX_ITEMS_PER_CALL,
    ) -> None:
        """`admit` receives the number of new items and returns their place among all that are submitted."""
        self.name = name
        self.decode = decode
        self.implied = implied
        self.undo: Callable[[list[Item], Sequence[Reply]], None] | None = None
        """Receives items and replies whose callers get an error, because the changes may not be durable."""
        self.waiting_items = 0
        self.unanswered = 0
        """Calls that wait, or whose answer has not come."""
        self._encode = encode
        self._admit = admit
        self._max_items = max_items
        self._waiting: deque[tuple[int, Sequence[Item], asyncio.Future[list[Reply]]]] = deque()

    def submit(self, items: Sequence[Item]) -> Awaitable[list[Reply]]:
        """The replies to `items`, in order. Raises the error of the call that carried them.

        The items take their place at once, not when the result is awaited. Cancelling a caller affects no other.
        """
        if len(items) > self._max_items:
            return self._submit_parts(items)
        future: asyncio.Future[list[Reply]] = asyncio.get_running_loop().create_future()
        if items:
            self.waiting_items += len(items)
            self.unanswered += 1
            self._waiting.append((self._admit(len(items)), items, future))
        else:
            future.set_result([])
        return future

    def _submit_parts(self, items: Sequence[Item]) -> Awaitable[list[Reply]]:
        parts = [self.submit(items[first : first + self._max_items]) for first in range(0, len(items), self._max_items)]
        return _joined(parts)

    @property
    def first_place(self) -> float:
        """The place of the items that wait longest, infinity if nothing waits."""
        return self._waiting[0][0] if self._waiting else inf

    def take(self, before: float = inf) -> Batch[Item, Reply] | None:
        """Take the items of the next call, but none from the place `before` on. None if there are none.

        Items that cannot be encoded fail their callers.
        """
        items: list[Item] = []
        callers: list[tuple[int, asyncio.Future[list[Reply]]]] = []
        while self.first_place < before and len(items) + len(self._waiting[0][1]) <= self._max_items:
            _, some, future = self._waiting.popleft()
            items += some
            callers.append((len(some), future))
        if not items:
            return None
        self.waiting_items -= len(items)
        try:
            arguments = self._encode(items)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            Batch(self, FunctionCall(self.name, ()), items, callers).resolve(error)
            return self.take(before)
        return Batch(self, FunctionCall(self.name, arguments, len(items)), items, callers)


class Batch(NamedTuple, Generic[Item, Reply]):
    """The items of one call, and the callers who wait for its replies."""

    queue: CallQueue[Item, Reply]
    call: FunctionCall
    items: list[Item]
    callers: list[tuple[int, asyncio.Future[list[Reply]]]]

    def resolve(self, reply: Any) -> None:
        """Give each caller its replies, or the error that the call failed with."""
        self.queue.unanswered -= len(self.callers)
        try:
            replies = self.queue.decode(self.items, reply) if not isinstance(reply, Exception) else ()
        except Exception as error:  # noqa: BLE001 - each caller gets it
            reply = error
        first = 0
        for count, future in self.callers:
            if not future.done():
                if isinstance(reply, Exception):
                    future.set_exception(reply)
                else:
                    future.set_result(list(replies[first : first + count]))
            first += count


class Exchanges:
    """The exchanges of one replica over one connection, in order.

    What is submitted during one turn of the event loop travels together; while exchanges are in flight, more gathers
    for the next. What does not fit waits for the next exchange, and nothing submitted later overtakes it, unless its
    function comes earlier in ORDER. So an idle system adds no delay. When busy, calls gather for milliseconds, so that
    more callers share the cost of each round trip. Replies are passed on once what they report is durable; meanwhile
    the next exchanges go on. Lives as long as its loop; `idle()` waits until nothing is in progress.
    """

    def __init__(self, functions: Functions) -> None:
        self.concurrency = Concurrency()
        self._functions = functions
        self._queues: list[CallQueue[Any, Any]] = []
        self._in_flight = 0
        self._uncovered = 0
        """Exchanges that were answered and wait to be durable."""
        self._waiting_items = 0
        self._places = itertools.count()
        self._send_soon: asyncio.Handle | None = None
        self._gathering = False
        self._reloads: set[asyncio.Task[None]] = set()
        self._idle = asyncio.Event()
        self._idle.set()

    def queue(
        self,
        name: str,
        encode: Callable[[list[Item]], list[Argument]],
        decode: Callable[[list[Item], Any], Sequence[Reply]],
        implied: Callable[[list[Item], Any], Sequence[Event]] = no_events,
    ) -> CallQueue[Item, Reply]:
        """Open the queue of a function, one of ORDER. `implied` derives the events that it does not return."""
        queue = CallQueue(name, encode, decode, implied, self._admit)
        self._queues.append(queue)
        self._queues.sort(key=lambda one: ORDER.index(one.name))
        return queue

    @property
    def busy(self) -> bool:
        """Whether calls gather. The rate does not show it: one caller may queue one command after another."""
        calls = sum([queue.unanswered for queue in self._queues if queue.name not in UNCOUNTED])
        return calls + self.concurrency.in_progress(time.monotonic()) >= BUSY

    async def idle(self) -> None:
        """Return once nothing is in progress."""
        await self._idle.wait()

    def _admit(self, new_items: int) -> int:
        self._idle.clear()
        self._waiting_items += new_items
        self._schedule()
        return next(self._places)

    def _schedule(self) -> None:
        if self._send_soon is not None:
            if not (self._gathering and self._waiting_items >= ENOUGH_ITEMS):
                return
            self._send_soon.cancel()
        elif self._in_flight >= MAX_IN_FLIGHT:
            return
        loop = asyncio.get_running_loop()
        self._gathering = self._waiting_items < ENOUGH_ITEMS and self.busy
        self._send_soon = loop.call_later(GATHER_SECONDS, self._send) if self._gathering else loop.call_soon(self._send)

    def _send(self) -> None:
        self._send_soon = None
        while self._waiting_items and self._in_flight < MAX_IN_FLIGHT:
            batches = self._take()
            self._waiting_items = sum([queue.waiting_items for queue in self._queues])
            if batches:
                self._exchange(batches)
        self._note_idle()

    def _note_idle(self) -> None:
        if not self._in_flight and not self._uncovered:
            self._idle.set()

    def _take(self) -> list[Batch[Any, Any]]:
        batches: list[Batch[Any, Any]] = []
        before = inf
        for queue in self._queues:
            if queue.waiting_items:
                batch = queue.take(before)
                if batch is not None:
                    batches.append(batch)
                # A claim, say, must not go ahead of commands left over that were queued before it.
                before = min(before, queue.first_place)
        return batches

    def _exchange(self, batches: list[Batch[Any, Any]]) -> None:
        self._in_flight += 1
        try:
            replies = self._functions.submit([batch.call for batch in batches])
        except Exception as error:  # noqa: BLE001 - each caller gets it
            self._failed(batches, error)
        else:
            replies.add_done_callback(partial(self._replied, batches, time.perf_counter()))

    def _replied(self, batches: list[Batch[Any, Any]], begun: float, replies: asyncio.Future[list[Any]]) -> None:
        error = replies.exception()
        if error is not None:
            self._failed(batches, error)
            return
        raw = replies.result()
        matters = any(batch.queue.name not in TRANSIENT for batch in batches)
        covered = self._functions.covered(raw, len(batches), wait=matters)
        if covered is None:
            self._resolve_or_load(batches, raw, begun)
            return
        self._uncovered += 1
        self._ended()
        covered.add_done_callback(partial(self._covered, batches, raw, begun))

    def _covered(
        self, batches: list[Batch[Any, Any]], raw: list[Any], begun: float, covered: asyncio.Future[None]
    ) -> None:
        self._uncovered -= 1
        self._in_flight += 1
        error = covered.exception()
        if error is None:
            self._resolve_or_load(batches, raw, begun)
        else:
            self._undo(list(zip(batches, raw, strict=True)))
            self._failed(batches, error)

    def _undo(self, replied: list[tuple[Batch[Any, Any], Any]]) -> None:
        for batch, raw in replied:
            if batch.queue.undo is not None and not isinstance(raw, Exception):
                try:
                    _, _, reply = raw
                    batch.queue.undo(batch.items, batch.queue.decode(batch.items, reply))
                except Exception:
                    # The callers must still hear that the call failed. Deadlines undo it later.
                    logger.exception("a change that may not be durable could not be undone", function=batch.queue.name)

    def _resolve_or_load(self, batches: list[Batch[Any, Any]], raw: list[Any], begun: float) -> None:
        # Another client may load or delete the library between two calls. What has run must not run again.
        missing = [batch for batch, reply in zip(batches, raw, strict=True) if is_missing(reply)]
        self._resolve([pair for pair in zip(batches, raw, strict=True) if not is_missing(pair[1])], begun)
        if missing:
            reload = asyncio.create_task(self._load_and_send(missing), name="load the functions")
            self._reloads.add(reload)
            reload.add_done_callback(self._reloads.discard)
        else:
            self._ended()

    def _resolve(self, replied: list[tuple[Batch[Any, Any], Any]], begun: float) -> None:
        seconds = time.perf_counter() - begun
        for batch, raw in replied:
            try:
                reply = self._functions.reply(batch.call, raw, seconds, partial(batch.queue.implied, batch.items))
            except Exception as error:  # noqa: BLE001 - each caller gets it
                reply = error
            batch.resolve(reply)

    async def _load_and_send(self, batches: list[Batch[Any, Any]]) -> None:
        begun = time.perf_counter()
        raw: list[Any] = []
        try:
            await self._functions.load()
            raw = await self._functions.submit([batch.call for batch in batches])
            covered = self._functions.covered(raw, len(batches))
            if covered is not None:
                await asyncio.shield(covered)
        except Exception as error:  # noqa: BLE001 - each caller gets it
            # Without replies, nothing is known to have happened.
            self._undo(list(zip(batches, raw, strict=False)))
            self._failed(batches, error)
        else:
            self._resolve(list(zip(batches, raw, strict=True)), begun)
            self._ended()

    def _failed(self, batches: list[Batch[Any, Any]], error: BaseException) -> None:
        for batch in batches:
            self._functions.note_failure(batch.call.name)
            batch.resolve(error)
        self._ended()

    def _ended(self) -> None:
        self._in_flight -= 1
        if self._waiting_items:
            self._schedule()
        else:
            self._note_idle()


async def _joined(parts: Sequence[Awaitable[list[Reply]]]) -> list[Reply]:
    replies: list[Reply] = []
    for part in await asyncio.gather(*parts):
        replies += part
    return replies
