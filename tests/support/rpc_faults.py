"""An interceptor that delays, refuses and cuts calls to a real CommandService, and loses answers."""

from __future__ import annotations

import asyncio
import copy
import gzip
from collections import Counter, defaultdict, deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import aclosing, contextmanager
from typing import Any, Final

import grpc

from distributor.rpc.interceptors.wrapping import Context, Interceptor, short_name
from tests.support.answered_errors import Refusal, abort
from tests.support.waiting import PATIENCE_SECONDS

AGENT_STREAM: Final = "/distributor.v1.AgentGatewayService/Connect"
GOING_AWAY: Final = Refusal(grpc.StatusCode.UNAVAILABLE, "going away")


class RpcFaults(Interceptor):
    """Records every call but those of agents, and injects the faults that a test asks for; none at first.

    Methods go by their short name, such as "QueueCommand". `clear` between the tests that share a server.
    """

    def __init__(self) -> None:
        self._changed = asyncio.Event()
        self.clear()

    def clear(self) -> None:
        """Forget all calls, and inject nothing more."""
        self.calls: Counter[str] = Counter()
        self.requests: list[Any] = []
        self.cut_streams_after: list[int] = []
        """How many messages each coming stream may carry before it is cut with UNAVAILABLE."""
        self._refusals: defaultdict[str, deque[Refusal]] = defaultdict(deque)
        self._lost_answers: Counter[str] = Counter()
        self._held: dict[str, asyncio.Event] = {}
        self._edits: dict[str, Callable[[Any], None]] = {}

    def refuse(self, method: str, refusal: Refusal, times: int = 1, after: int = 0) -> None:
        """Abort the next calls before they have an effect; the first `after` calls from now pass."""
        self._refusals[method].extend([PASS] * after + [refusal] * times)

    def lose_answers(self, method: str, times: int = 1) -> None:
        """Let the next calls take effect, and then fail them with UNAVAILABLE."""
        self._lost_answers[method] += times

    def edit_answers(self, method: str, edit: Callable[[Any], None]) -> None:
        """Change each answer of a unary method, as a server of another version might send it."""
        self._edits[method] = edit

    @contextmanager
    def held(self, method: str) -> Iterator[None]:
        """Delay calls: those that arrive inside the block wait, recorded but without effect, until it ends."""
        released = self._held[method] = asyncio.Event()
        try:
            yield
        finally:
            self._held.pop(method, None)
            released.set()

    async def until(self, condition: Callable[[], bool]) -> None:
        """Wait, bounded, for a call that makes `condition` true."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        if method == AGENT_STREAM:
            return behaviour
        method = short_name(method)

        async def call(request: Any, context: Context) -> Any:
            await self._enter(method, request, context)
            answer = await behaviour(request, context)
            if self._lost_answers[method]:
                self._lost_answers[method] -= 1
                await abort(context, GOING_AWAY)
            if method in self._edits:
                self._edits[method](answer)
            return answer

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        method = short_name(method)

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            await self._enter(method, request, context)
            left = self.cut_streams_after.pop(0) if self.cut_streams_after else -1
            async with aclosing(behaviour(request, context)) as messages:
                async for message in messages:
                    if left == 0:
                        await abort(context, GOING_AWAY)
                    left -= 1
                    yield message

        return call

    async def _enter(self, method: str, request: Any, context: Context) -> None:
        self.calls[method] += 1
        # A copy: servicers fill in what a request leaves open.
        packed = getattr(request, "gzip", b"")
        self.requests.append(type(request).FromString(gzip.decompress(packed)) if packed else copy.deepcopy(request))
        self._changed.set()
        if method in self._held:
            await self._held[method].wait()
        refusals = self._refusals[method]
        if refusals and (refusal := refusals.popleft()) is not PASS:
            await abort(context, refusal)


PASS: Final = Refusal(grpc.StatusCode.OK, "")
"""Stands for a call that is not refused."""
