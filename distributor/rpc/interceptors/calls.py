"""Surrounds each call with what all calls need, in one coroutine: measuring, errors, authentication, limit."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from typing import Any

from distributor.dispatch.revocations import Revocations
from distributor.observability.metrics import Metrics
from distributor.rpc.interceptors.admission import EXEMPT, MAX_URGENT_CALLS, URGENT, CallLimit
from distributor.rpc.interceptors.audit import CallAudit
from distributor.rpc.interceptors.authentication import Door, Doors, later
from distributor.rpc.interceptors.errors import abort
from distributor.rpc.interceptors.lapse import CallGuard
from distributor.rpc.interceptors.metadata import check_metadata_size
from distributor.rpc.interceptors.metrics import MeasuredCall
from distributor.rpc.interceptors.wrapping import Context, Handler, Interceptor
from distributor.rpc.malformed import Malformed, tolerant
from distributor.wire.transport import MAX_METADATA_BYTES


class CallInterceptor(Interceptor):
    """Measures, admits, limits and ends calls, and converts their errors to status.

    Calls are measured by the code that callers see, and end when their caller's credentials lapse.

    Without `doors`, authentication is off. With them, a request is parsed once its caller is admitted.

    Separate wrappers would add a coroutine step to every message of every call.
    """

    def __init__(
        self,
        metrics: Metrics,
        limit: CallLimit,
        doors: Doors | None = None,
        audit: CallAudit | None = None,
        max_metadata_bytes: int = MAX_METADATA_BYTES,
        guard: CallGuard | None = None,
    ) -> None:
        self._max_metadata_bytes = max_metadata_bytes
        self._metrics = metrics
        self._limit = limit
        self._urgent = CallLimit(MAX_URGENT_CALLS)
        self._doors = doors
        self._audit = audit
        self._guard = guard if guard is not None else CallGuard(Revocations())

    def wrap(self, method: str, handler: Handler) -> Handler:
        wrapped = super().wrap(method, self._guard.wrap_awaited(method, handler))
        if self._doors is None or handler.request_streaming:
            # The messages of a stream are parsed when its servicer, which is called after the door, reads them.
            return wrapped
        return wrapped._replace(request_deserializer=later(handler.request_deserializer))

    def wrap_unary(self, method: str, behaviour: Callable[..., Awaitable[Any]]) -> Callable[..., Awaitable[Any]]:
        metrics, limited, door = self._metrics, self._limit_of(method), self._door_of(method)
        audit, max_metadata_bytes = self._audit, self._max_metadata_bytes

        async def call(request: Any, context: Context) -> Any:
            with MeasuredCall(metrics, method, context):
                try:
                    check_metadata_size(context, max_metadata_bytes)
                    if door is not None:
                        request = await door.admit(request, context)
                        if audit is not None:
                            audit.admitted()
                    if isinstance(request, Malformed):
                        raise request.error
                    with limited():
                        return await behaviour(request, context)
                except Exception as error:  # noqa: BLE001 - the caller always gets a status
                    if audit is not None:
                        audit.ended(method, error, context)
                    await abort(method, error, context)

        return call

    def wrap_stream(
        self, method: str, behaviour: Callable[..., AsyncGenerator[Any, None]]
    ) -> Callable[..., AsyncGenerator[Any, None]]:
        metrics, limited, door = self._metrics, self._limit_of(method), self._door_of(method)
        audit, max_metadata_bytes, guard = self._audit, self._max_metadata_bytes, self._guard

        async def call(request: Any, context: Context) -> AsyncGenerator[Any, None]:
            with MeasuredCall(metrics, method, context):
                try:
                    check_metadata_size(context, max_metadata_bytes)
                    if door is not None:
                        request = await door.admit(request, context)
                        if audit is not None:
                            audit.admitted()
                    if isinstance(request, Malformed):
                        raise request.error
                    with limited(), guard.call() as guarded:
                        async with aclosing(behaviour(request, context)) as responses:
                            async for response in responses:
                                if guarded.lapse is not None:
                                    # The handler went on although it was cancelled.
                                    raise guarded.lapse.error()
                                guarded.sending = True
                                yield response
                                guarded.sending = False
                                if guarded.lapse is not None:
                                    raise guarded.lapse.error()
                except Exception as error:  # noqa: BLE001 - the caller always gets a status
                    if audit is not None:
                        audit.ended(method, error, context)
                    await abort(method, error, context)

        return call

    def deserializer(self, deserialize: Callable[[bytes], Any]) -> Callable[[bytes], Any]:
        return tolerant(deserialize)

    def _door_of(self, method: str) -> Door | None:
        return self._doors.door(method) if self._doors is not None else None

    def _limit_of(self, method: str) -> Callable[[], AbstractContextManager[None]]:
        if method in EXEMPT:
            return nullcontext
        return self._urgent.call if method in URGENT else self._limit.call
