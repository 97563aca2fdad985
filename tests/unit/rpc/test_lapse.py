"""A call ends when its caller's credentials lapse, at once or as soon as its reader has taken the last response."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any, Final

import pytest

from distributor.dispatch.revocations import Lapse, Revocations
from distributor.errors import Unauthenticated, Unavailable
from distributor.identity.caller import ANYONE, Caller, CallerKind
from distributor.model.revocation import Credential
from distributor.observability.metrics import Metrics
from distributor.rpc.current_caller import set_current_caller
from distributor.rpc.interceptors import calls
from distributor.rpc.interceptors.admission import CallLimit
from distributor.rpc.interceptors.calls import CallInterceptor
from distributor.rpc.interceptors.lapse import CallGuard
from tests.support.waiting import PATIENCE_SECONDS, until

METHOD: Final = "/distributor.v1.CommandService/WatchCommands"
ALICE: Final = Caller(CallerKind.USER, "alice", token_ids=("jti-1",), expires=time.time() + 86_400)
Stream = Callable[[Any, Any], AsyncGenerator[int, None]]


class Lapsing:
    """Calls under guard, whose credentials lapse when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        async def as_it_is(method: str, error: Exception, context: Any) -> None:
            raise error

        monkeypatch.setattr(calls, "abort", as_it_is)
        self.revocations = Revocations()
        self.lapse: Lapse | None = None
        self.revocations.standing = lambda _: self.lapse
        guard = CallGuard(self.revocations)
        self._interceptor = CallInterceptor(Metrics(), CallLimit(10), guard=guard)
        self.context: Any = SimpleNamespace(invocation_metadata=lambda: (), code=lambda: None)
        self.waiting = asyncio.Event()
        self.closed = False

    def end(self, lapse: Lapse = Lapse.REVOKED) -> int:
        """The credentials lapse now; return how many calls were under guard."""
        self.lapse = lapse
        return self.revocations.end_lapsed(time.time())

    def stream(self, behaviour: Stream) -> AsyncGenerator[int, None]:
        return self._interceptor.wrap_stream(METHOD, behaviour)(None, self.context)

    async def patient(self, _: Any, __: Any) -> AsyncGenerator[int, None]:
        """Two responses, and then none for ever."""
        try:
            yield 1
            yield 2
            self.waiting.set()
            await asyncio.Event().wait()
        finally:
            self.closed = True


@pytest.fixture
async def lapsing(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Lapsing]:
    set_current_caller(ALICE)
    yield Lapsing(monkeypatch)
    set_current_caller(ANYONE)


async def all_of(stream: AsyncGenerator[int, None], read: list[int]) -> None:
    async for response in stream:
        read.append(response)


def started(stream: AsyncGenerator[int, None]) -> tuple[asyncio.Task[None], list[int]]:
    """A task that reads a stream, like that of gRPC, and what it has read."""
    set_current_caller(ALICE)
    read: list[int] = []
    return asyncio.create_task(all_of(stream, read)), read


async def test_a_stream_that_waits_ends_at_once(lapsing: Lapsing) -> None:
    task, read = started(lapsing.stream(lapsing.patient))
    await lapsing.waiting.wait()
    assert lapsing.end() == 1
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unauthenticated) as caught:
            await task
    assert (caught.value.reason, read) == ("CREDENTIALS_REVOKED", [1, 2])
    assert not task.cancelled()
    assert task.cancelling() == 0
    assert lapsing.closed
    assert len(lapsing.revocations) == 0


async def test_a_stream_that_sends_ends_when_its_reader_goes_on(lapsing: Lapsing) -> None:
    set_current_caller(ALICE)
    stream = lapsing.stream(lapsing.patient)
    assert [await anext(stream), await anext(stream)] == [1, 2]
    lapsing.end(Lapse.EXPIRED)
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0
    assert not lapsing.closed
    async with asyncio.timeout(PATIENCE_SECONDS):
        with pytest.raises(Unauthenticated) as caught:
            await anext(stream)
    assert caught.value.reason == "CREDENTIALS_EXPIRED"
    assert lapsing.closed


async def test_a_caller_that_gives_up_as_its_credentials_lapse_is_cancelled(lapsing: Lapsing) -> None:
    task, _ = started(lapsing.stream(lapsing.patient))
    await lapsing.waiting.wait()
    task.cancel()
    lapsing.end()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_handler_that_ignores_the_cancellation_sends_nothing_more(lapsing: Lapsing) -> None:
    async def stubborn(_: Any, __: Any) -> AsyncGenerator[int, None]:
        yield 1
        try:
            lapsing.waiting.set()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            yield 2

    task, read = started(lapsing.stream(stubborn))
    await lapsing.waiting.wait()
    lapsing.end()
    with pytest.raises(Unauthenticated):
        await task
    assert read == [1]
    assert task.cancelling() == 0


async def test_timeouts_inside_a_call_keep_their_meaning(lapsing: Lapsing) -> None:
    async def limited(_: Any, __: Any) -> AsyncGenerator[int, None]:
        try:
            async with asyncio.timeout(0.01):
                await asyncio.Event().wait()
        except TimeoutError:
            yield 1
        async with asyncio.timeout(3_600):
            lapsing.waiting.set()
            await asyncio.Event().wait()

    task, read = started(lapsing.stream(limited))
    await lapsing.waiting.wait()
    lapsing.end()
    with pytest.raises(Unauthenticated):
        await task
    await until(lambda: read == [1])


async def test_a_call_does_not_begin_once_the_credentials_have_lapsed(lapsing: Lapsing) -> None:
    lapsing.lapse = Lapse.PERMISSIONS_CHANGED
    with pytest.raises(Unavailable) as caught:
        await anext(lapsing.stream(lapsing.patient))
    assert caught.value.reason == "PERMISSIONS_CHANGED"


async def test_a_call_of_an_unknown_caller_is_not_guarded(lapsing: Lapsing) -> None:
    set_current_caller(ANYONE)
    stream = lapsing.stream(lapsing.patient)
    assert await anext(stream) == 1
    assert lapsing.end() == 0
    assert await anext(stream) == 2
    await stream.aclose()


@pytest.mark.parametrize(("method", "streams"), [(METHOD, True), ("/distributor.v1.AuditService/VerifyAudit", False)])
async def test_a_stream_that_is_awaited_ends_too_and_a_long_call(lapsing: Lapsing, method: str, streams: bool) -> None:
    async def awaited(_: Any, __: Any) -> None:
        lapsing.waiting.set()
        await asyncio.Event().wait()

    kinds = dict.fromkeys(("unary_unary", "unary_stream", "stream_unary", "stream_stream"))
    kind = "unary_stream" if streams else "unary_unary"
    handler = SimpleNamespace(request_streaming=False, response_streaming=streams, **kinds | {kind: awaited})
    handler._replace = lambda **changes: SimpleNamespace(**changes)
    guarded = CallGuard(lapsing.revocations).wrap_awaited(method, handler)
    set_current_caller(ALICE)
    task = asyncio.create_task(getattr(guarded, kind)(None, None))
    await lapsing.waiting.wait()
    lapsing.end()
    with pytest.raises(Unauthenticated):
        await task


def test_a_caller_is_guarded_by_all_that_it_is_known_by() -> None:
    assert ALICE.credential() == Credential(token_ids=("jti-1",), expires=ALICE.expires)
    assert Caller(CallerKind.AGENT, "press-7").credential() == Credential("press-7")
    assert Caller(CallerKind.SERVICE, "billing").credential() == Credential(service="billing")
