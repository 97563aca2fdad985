"""Ends calls whose caller's credentials are revoked or expire while they are served."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from distributor.dispatch.revocations import Lapse, Revocations
from distributor.rpc.current_caller import current_caller
from distributor.rpc.interceptors.wrapping import Context, Handler

GUARDS_ITSELF: Final = frozenset({"/distributor.v1.AgentGatewayService/Connect"})
"""Ends its own streams, with the status after the last messages to the agent."""
LONG_CALLS: Final = frozenset({"/distributor.v1.AuditService/VerifyAudit"})
"""Unary calls that may take longer than a revocation needs to take effect. All others answer within seconds."""


class GuardedCall:
    """A call under way, for its own task and for whoever ends it. `sending` while a response is passed to gRPC.

    A pending write must not be cancelled, as the stream could then carry no status. So a call that is sending ends when
    its reader has taken the response, and any other at once.
    """

    __slots__ = ("_before", "_cancelled", "_task", "lapse", "sending")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._before = task.cancelling()
        self._cancelled = False
        self.sending = False
        self.lapse: Lapse | None = None
        """Why the call must end."""

    def __call__(self, lapse: Lapse) -> None:
        """End the call."""
        self.lapse = lapse
        if not self.sending:
            self._cancelled = self._task.cancel()

    def only_lapsed(self) -> bool:
        """Whether the call ends because of the lapse alone. Withdraws the cancellation that ended it."""
        if self.lapse is None:
            return False
        remaining = self._task.uncancel() if self._cancelled else self._task.cancelling()
        self._cancelled = False
        # Its caller may have cancelled the call as well.
        return remaining <= self._before


class CallGuard:
    """Guards calls while they are served. A call of an unknown caller rests on no credentials."""

    def __init__(self, revocations: Revocations) -> None:
        self._revocations = revocations

    @contextmanager
    def call(self) -> Iterator[GuardedCall]:
        """Guard the present call inside this block. Raises Unauthenticated, or what else the lapse says."""
        task = asyncio.current_task()
        assert task is not None
        guarded, caller = GuardedCall(task), current_caller()
        if not caller.known:
            yield guarded
            return
        with self._revocations.guard(caller.credential(), guarded):
            try:
                yield guarded
            except (Exception, asyncio.CancelledError):
                if guarded.only_lapsed() and guarded.lapse is not None:
                    raise guarded.lapse.error() from None
                raise

    def wrap_awaited(self, method: str, handler: Handler) -> Handler:
        """Guard a handler that is awaited if its calls may last: streams that write through their context, and
        LONG_CALLS. Handlers that are iterated are guarded by who iterates them.
        """
        lasts = handler.request_streaming or handler.response_streaming or method in LONG_CALLS
        if not lasts or method in GUARDS_ITSELF:
            return handler
        changes: dict[str, Any] = {}
        for kind in ("unary_unary", "unary_stream", "stream_unary", "stream_stream"):
            behaviour = getattr(handler, kind)
            if behaviour is not None and not inspect.isasyncgenfunction(behaviour):
                changes[kind] = self._guarded(behaviour)
        return handler._replace(**changes)

    def _guarded(self, behaviour: Callable[..., Any]) -> Callable[..., Any]:
        async def call(request: Any, context: Context) -> Any:
            with self.call():
                return await behaviour(request, context)

        return call
