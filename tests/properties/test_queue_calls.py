"""Each caller of QueueCalls gets the answer to its own command, however callers, cancels and failures interleave."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any, NamedTuple

import grpc
from hypothesis import given
from hypothesis import strategies as st

from distributor import errors
from distributor.client.gathering import GatheringLimits
from distributor.client.options import ClientOptions
from distributor.client.queue_calls import QueueCalls
from distributor.client.queued_command import Answer
from distributor.client.unary_calls import UnaryCalls
from distributor.model.retry_policy import RetryPolicy
from distributor.v1 import command_service_pb2 as pb

AT_ONCE = ClientOptions(calls=RetryPolicy(attempts=3, first_ms=1, max_ms=1), jitter=lambda: 0.0)
NOTHING = grpc.aio.Metadata()
TURNS = 12
"""More turns of the loop than an answer needs to reach its caller, and a retry to reach the server."""


class Flight(NamedTuple):
    """One call that the server has received and not answered."""

    requests: Sequence[pb.QueueCommandRequest]
    answer: asyncio.Future[Any]


class ScriptedServer:
    """Stands in for a stub. Stores commands by key; answers and fails calls when the test says so."""

    def __init__(self) -> None:
        self.flights: list[Flight] = []
        self.stored: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.unavailable: set[str] = set()
        """Keys of commands that the server does not store the next time."""

    async def QueueCommand(self, request: pb.QueueCommandRequest, timeout: float) -> Any:
        return await self._received([request])

    async def QueueCommands(self, request: pb.QueueCommandsRequest, timeout: float) -> Any:
        assert len(request.requests) > 1
        assert request.with_commands
        return await self._received(list(request.requests))

    async def _received(self, requests: Sequence[pb.QueueCommandRequest]) -> Any:
        self.sent.update(request.idempotency_key for request in requests)
        flight = Flight(requests, asyncio.get_running_loop().create_future())
        self.flights.append(flight)
        try:
            return await flight.answer
        finally:
            self.flights.remove(flight)

    def answer(self, flight: Flight) -> None:
        """Store what can be stored, and answer each."""
        response = pb.QueueCommandsResponse()
        for request in flight.requests:
            outcome = response.outcomes.add()
            key = request.idempotency_key
            if key.startswith("refused"):
                outcome.error.CopyFrom(pb.QueueError(code="FAILED_PRECONDITION", reason="R", message=key))
            elif key in self.unavailable:
                self.unavailable.remove(key)
                outcome.error.CopyFrom(pb.QueueError(code="UNAVAILABLE", reason="AWAY", message=key))
            else:
                self.stored[key] = 1
                outcome.command_id = outcome.command.command_id = f"id of {key}"
        if len(flight.requests) > 1:
            flight.answer.set_result(response)
        elif response.outcomes[0].HasField("error"):
            error = response.outcomes[0].error
            self.fail(flight, grpc.StatusCode[error.code], error.message)
        else:
            (request,) = flight.requests
            request.command.command_id = response.outcomes[0].command_id
            flight.answer.set_result(pb.QueueCommandResponse(command=request.command))

    def fail(self, flight: Flight, code: grpc.StatusCode, text: str = "failed") -> None:
        """Fail a call as a whole."""
        flight.answer.set_exception(grpc.aio.AioRpcError(code, NOTHING, NOTHING, text))


class World:
    """Callers, and the server that they call."""

    def __init__(self, limits: GatheringLimits) -> None:
        self.limits = limits
        self.server = ScriptedServer()
        self.queueing = QueueCalls(self.server, "host:1", limits)  # type: ignore[arg-type]
        self.calls = UnaryCalls("host:1", AT_ONCE)
        self.callers: dict[str, asyncio.Task[Answer]] = {}
        self.cancelled: set[str] = set()
        self._numbers = itertools.count()

    def call(self, kind: str) -> None:
        """Let another caller queue a command."""
        key = f"{kind} {next(self._numbers)}"
        if kind == "unavailable":
            self.server.unavailable.add(key)
        request = pb.QueueCommandRequest(idempotency_key=key)
        request.command.params["key"] = key
        self.callers[key] = asyncio.create_task(self.calls.call(self.queueing.call, request))

    def cancel(self, number: int) -> None:
        """Cancel one of the callers."""
        key = list(self.callers)[number % len(self.callers)] if self.callers else ""
        if key and not self.callers[key].done():
            self.callers[key].cancel()
            self.cancelled.add(key)

    async def settle(self) -> None:
        """Let everything happen that does not wait for the server."""
        for _ in range(TURNS):
            await asyncio.sleep(0)
        assert len(self.server.flights) <= self.limits.in_flight
        assert all(len(flight.requests) <= self.limits.items for flight in self.server.flights)

    async def finish(self) -> None:
        """Answer everything, and check what each caller got."""
        while any(not task.done() for task in self.callers.values()):
            await self.settle()
            for flight in list(self.server.flights):
                self.server.answer(flight)
        for key, task in self.callers.items():
            (answer,) = await asyncio.gather(task, return_exceptions=True)
            self._check(key, answer)
        await self.queueing.close()
        assert not self.server.flights

    def _check(self, key: str, answer: Answer | BaseException) -> None:
        if isinstance(answer, asyncio.CancelledError):
            assert key in self.cancelled
        elif isinstance(answer, errors.FailedPrecondition):
            assert (key.partition(" ")[0], answer.message) == ("refused", key)
        elif isinstance(answer, errors.DistributorError):
            # Its last try failed, by itself or with the call that carried it.
            assert answer.message.endswith(("failed", key))
        else:
            assert not isinstance(answer, BaseException), answer
            assert answer.command.command_id == f"id of {key}"
            assert self.server.stored[key] == 1


ACTIONS = st.one_of(
    st.tuples(st.just("call"), st.sampled_from(["accepted", "refused", "unavailable"])),
    st.tuples(st.just("cancel"), st.integers(0, 40)),
    st.tuples(st.just("answer"), st.integers(0, 5)),
    st.tuples(st.just("unavailable"), st.integers(0, 5)),
    st.tuples(st.just("broken"), st.integers(0, 5)),
    st.tuples(st.just("settle"), st.just(0)),
)


async def play(actions: Sequence[tuple[str, Any]], limits: GatheringLimits) -> None:
    world = World(limits)
    for name, argument in actions:
        match name:
            case "call":
                world.call(argument)
            case "cancel":
                world.cancel(argument)
            case "settle":
                await world.settle()
            case _ if world.server.flights:
                flight = world.server.flights[argument % len(world.server.flights)]
                if flight.answer.done():
                    continue
                if name == "answer":
                    world.server.answer(flight)
                else:
                    code = grpc.StatusCode.UNAVAILABLE if name == "unavailable" else grpc.StatusCode.INTERNAL
                    world.server.fail(flight, code)
    await world.finish()


def run(coroutine: Coroutine[Any, Any, None]) -> None:
    # A loop of its own, so that no task is left over from the example before.
    loop = asyncio.new_event_loop()
    try:
        loop.run_until_complete(coroutine)
    finally:
        loop.close()


@given(
    st.lists(ACTIONS, max_size=60),
    st.builds(
        GatheringLimits,
        items=st.integers(1, 5),
        in_flight=st.integers(1, 3),
        patience_seconds=st.sampled_from([0.0, 1_000.0]),
    ),
)
def test_each_caller_gets_its_own_answer(actions: list[tuple[str, Any]], limits: GatheringLimits) -> None:
    run(play(actions, limits))
