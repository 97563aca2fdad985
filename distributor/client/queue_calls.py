"""Calls that queue one command each, sent together when many callers make them at the same time."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import grpc

from distributor.client.gathering import DEFAULT_LIMITS, Gathering, GatheringLimits
from distributor.client.queued_command import Answer
from distributor.client.status import concerns_each, deadline_exceeded, error_of, error_of_outcome
from distributor.tasks import stop_tasks
from distributor.timeouts import Timeouts
from distributor.v1.command_service_pb2 import QueueCommandOutcome, QueueCommandRequest, QueueCommandsRequest

if TYPE_CHECKING:
    from distributor.v1.command_service_pb2_grpc import CommandServiceAsyncStub

_Awaited: TypeAlias = "asyncio.Future[Answer | Exception | None]"

_ENVELOPE_BYTES: Final = 8
"""Upper bound of what a request of a batch adds to it besides its own bytes."""


class _Call:
    """One caller's request. `answer` becomes None at the caller's deadline."""

    __slots__ = ("answer", "deadline", "group", "request")

    def __init__(self, request: QueueCommandRequest, deadline: float, answer: _Awaited):
        self.request = request
        self.deadline = deadline
        self.answer = answer
        self.group: _Group | None = None


class _Group:
    """Calls that travel together. Its task ends early if all callers have left."""

    __slots__ = ("awaited", "calls", "task")

    def __init__(self, calls: Sequence[_Call]) -> None:
        self.calls = calls
        self.awaited = len(calls)
        self.task: asyncio.Task[None] | None = None
        for call in calls:
            call.group = self

    def leave(self) -> None:
        """Note that one caller does not wait for its answer any more."""
        self.awaited -= 1
        if not self.awaited and self.task is not None:
            self.task.cancel()


class QueueCalls:
    """Sends the requests of concurrent callers over one connection, on the event loop that creates it.

    A request goes out at once, as a QueueCommand. Requests that arrive while another is in flight go together in one
    QueueCommands, within `limits`. Each caller gets the answer to its own request, has its own deadline, and can be
    cancelled without affecting others. Makes one attempt: callers retry.
    """

    def __init__(self, stub: CommandServiceAsyncStub, target: str, limits: GatheringLimits = DEFAULT_LIMITS) -> None:
        self._stub = stub
        self._target = target
        self._loop = asyncio.get_running_loop()
        self._gathering: Gathering[_Call] = Gathering(limits)
        self._groups: set[_Group] = set()
        self._unanswered: Timeouts[_Call] = Timeouts(self._loop, _expire)
        self._next_look: asyncio.Handle | None = None
        self._looks_soon = False

    async def call(self, request: QueueCommandRequest, timeout: float) -> Answer:
        """Queue one command. Raises an error of `distributor.errors`; Unavailable after `timeout` seconds."""
        call = _Call(request, self._loop.time() + timeout, self._loop.create_future())
        self._unanswered.add(call, call.deadline)
        self._wait(call)
        try:
            answer = await call.answer
            if answer is None:
                raise deadline_exceeded(self._target)
        except BaseException:
            self._leave(call)
            raise
        finally:
            self._unanswered.discard(call)
        if isinstance(answer, grpc.aio.AioRpcError):
            # An error for each caller, as callers may change theirs.
            raise error_of(answer, self._target) from answer
        if isinstance(answer, Exception):
            raise answer
        if isinstance(answer, QueueCommandOutcome) and not answer.command_id:
            raise error_of_outcome(answer.error)
        return answer

    async def close(self) -> None:
        """Cancel all calls."""
        for call in self._unanswered.items:
            call.answer.cancel()
        self._unanswered.close()
        if self._next_look is not None:
            self._next_look.cancel()
        await stop_tasks([group.task for group in self._groups if group.task is not None])

    def _wait(self, call: _Call, *, alone: bool = False) -> None:
        call.group = None
        self._gathering.add(call, call.request.ByteSize() + _ENVELOPE_BYTES, self._loop.time(), alone=alone)
        self._look_soon()

    def _leave(self, call: _Call) -> None:
        if call.group is None:
            self._gathering.discard(call)
        else:
            call.group.leave()

    def _look_soon(self) -> None:
        """Look for a group that may leave, once all tasks that are ready now have run: they may make calls as well."""
        if self._looks_soon:
            return
        if self._next_look is not None:
            self._next_look.cancel()
        self._looks_soon = True
        self._next_look = self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looks_soon, self._next_look = False, None
        while taken := self._gathering.take_group(self._loop.time()):
            self._start([call for call in taken if not call.answer.done()])
        leaves_at = self._gathering.leaves_at
        if leaves_at is not None:
            self._next_look = self._loop.call_at(leaves_at, self._look)

    def _start(self, calls: Sequence[_Call]) -> None:
        if not calls:
            self._gathering.group_ended()
            return
        group = _Group(calls)
        self._groups.add(group)
        group.task = asyncio.create_task(self._send(group))

    async def _send(self, group: _Group) -> None:
        try:
            for call, answer in zip(group.calls, await self._answers(group.calls), strict=True):
                if not call.answer.done():
                    call.answer.set_result(answer)
        except Exception as failure:  # noqa: BLE001 - the callers raise it
            self._fail(group, failure)
        except asyncio.CancelledError:
            # The connection was closed, or all callers have left.
            for call in group.calls:
                call.answer.cancel()
            raise
        finally:
            self._groups.discard(group)
            self._gathering.group_ended()
            self._look_soon()

    async def _answers(self, calls: Sequence[_Call]) -> Sequence[Answer]:
        timeout = max(call.deadline for call in calls) - self._loop.time()
        if len(calls) == 1:
            return [await self._stub.QueueCommand(calls[0].request, timeout=timeout)]
        batch = QueueCommandsRequest(requests=[call.request for call in calls], with_commands=True)
        return (await self._stub.QueueCommands(batch, timeout=timeout)).outcomes

    def _fail(self, group: _Group, failure: Exception) -> None:
        """Answer each call with `failure`, or send each alone if one request may have made the batch fail."""
        is_final = len(group.calls) == 1 or (
            isinstance(failure, grpc.aio.AioRpcError) and concerns_each(error_of(failure, self._target))
        )
        for call in group.calls:
            if call.answer.done():
                continue
            if is_final:
                call.answer.set_result(failure)
            else:
                self._wait(call, alone=True)


def _expire(call: _Call) -> None:
    if not call.answer.done():
        call.answer.set_result(None)
