"""Continuing a watch: what of a reopened stream is new."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distributor.client import (
    ClientOptions,
    CommandState,
    CommandStatus,
    OutputChunk,
    OutputGap,
    OutputStream,
    Receipts,
)
from distributor.client.reconnecting import Deadline
from distributor.client.watch_streams import WatchPosition, WatchStreams
from distributor.model.retry_policy import RetryPolicy
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as wire

NOTHING: Any = grpc.aio.Metadata()
QUEUED = CommandState("c1", "a1", "EXEC", 50, CommandStatus.QUEUED, 0, Receipts())
ASSIGNED = QUEUED._replace(status=CommandStatus.ASSIGNED)


def chunk(offset: int, data: bytes) -> OutputChunk:
    return OutputChunk(OutputStream.STDOUT, offset, data)


def test_output_that_was_seen_is_cut_off() -> None:
    position = WatchPosition(0)

    assert position.advance(chunk(0, b"abc")) == chunk(0, b"abc")
    assert position.advance(chunk(0, b"abc")) is None
    assert position.advance(chunk(1, b"bcde")) == chunk(3, b"de")
    assert position.output_offset == 5


def test_a_gap_moves_on() -> None:
    position = WatchPosition(0)

    assert position.advance(OutputGap(0, 10)) == OutputGap(0, 10)
    assert position.output_offset == 10


def test_a_state_that_did_not_change_is_not_told_again() -> None:
    position = WatchPosition(0)
    changed = QUEUED._replace(status=CommandStatus.ASSIGNED)

    told = [position.advance(update) for update in (QUEUED, QUEUED, changed, changed)]

    assert told == [QUEUED, None, changed, None]


@given(st.permutations([QUEUED._replace(revision=revision) for revision in (1, 2, 3, 4, 4)]))
def test_states_never_go_back_in_whatever_order_reopened_streams_bring_them(order: list[CommandState]) -> None:
    position = WatchPosition(0)
    told = [state.revision for state in order if position.advance(state) is not None]
    assert told == sorted(set(told))
    assert told[-1] == 4


@given(st.binary(min_size=1, max_size=60), st.lists(st.tuples(st.integers(1, 7), st.integers(0, 60)), max_size=20))
def test_each_byte_comes_once_however_the_stream_is_cut(output: bytes, streams: list[tuple[int, int]]) -> None:
    """Each stream begins with a whole chunk at or before the position, as a server does, and ends anywhere."""
    position, seen = WatchPosition(0), b""
    for size, length in [*streams, (5, len(output))]:
        start = position.output_offset - position.output_offset % size
        for offset in range(start, min(start + length + size, len(output)), size):
            new = position.advance(chunk(offset, output[offset : offset + size]))
            seen += new.data if isinstance(new, OutputChunk) else b""

    while position.output_offset < len(output):
        new = position.advance(chunk(position.output_offset, output[position.output_offset :]))
        seen += new.data if isinstance(new, OutputChunk) else b""
    assert seen == output


@pytest.mark.parametrize(
    "later",
    [
        ASSIGNED._replace(receipts=Receipts(queued_ms=1, assigned_ms=2, started_ms=3)),
        ASSIGNED._replace(cancel_ms=5),
    ],
)
def test_a_start_and_a_cancel_asked_for_are_told_although_the_status_stays(later: CommandState) -> None:
    position = WatchPosition(0)
    assert position.advance(ASSIGNED) == ASSIGNED
    assert position.advance(later) == later


def state_of(status: int, **times: int) -> command_pb2.CommandState:
    state = command_pb2.CommandState(status=status)  # type: ignore[arg-type]
    if "started" in times:
        state.receipts.start_time.FromMilliseconds(times["started"])
    if "cancel" in times:
        state.cancel_time.FromMilliseconds(times["cancel"])
    return state


STATES = [
    state_of(command_pb2.COMMAND_STATUS_ASSIGNED),
    state_of(command_pb2.COMMAND_STATUS_ASSIGNED, started=5),
    state_of(command_pb2.COMMAND_STATUS_ASSIGNED, started=5, cancel=7),
    state_of(command_pb2.COMMAND_STATUS_CANCELLED, started=5, cancel=7),
]
QUICK = ClientOptions(calls=RetryPolicy(attempts=2, first_ms=0, max_ms=0), reconnects=RetryPolicy(2, 0, 0))


class CutStreams:
    """A stub whose streams each give one message and are cut."""

    def __init__(self, messages: list[Any]) -> None:
        self._messages = iter(messages)

    def stream(self, request: object, timeout: float | None) -> Any:
        return CutStream(next(self._messages))

    WatchCommand = WatchCommands = stream


class CutStream:
    def __init__(self, message: Any) -> None:
        self._message = message

    async def __aiter__(self) -> AsyncIterator[Any]:
        yield self._message
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAVAILABLE, NOTHING, NOTHING, details="cut")

    def cancel(self) -> None:
        pass


async def test_streams_that_are_cut_after_each_message_go_on_and_tell_every_state() -> None:
    summaries = [wire.CommandSummary(command_id="c1", agent_id="a1", state=state) for state in STATES]
    result = command_pb2.CommandResult(command_id="c1", status=command_pb2.COMMAND_STATUS_CANCELLED)
    one = [wire.WatchCommandResponse(command=summary) for summary in summaries]
    stub: Any = CutStreams([*one, wire.WatchCommandResponse(result=result)])
    updates = WatchStreams(stub, "host:1", QUICK).updates(wire.WatchCommandRequest(command_id="c1"), Deadline(None))
    assert [seen_in(update) async for update in updates if isinstance(update, CommandState)] == EXPECTED

    stub = CutStreams([wire.WatchCommandsResponse(commands=[summary]) for summary in summaries])
    many = WatchStreams(stub, "host:1", QUICK).states(["c1"], Deadline(None))
    assert [seen_in(state) async for state in many] == EXPECTED


async def test_a_reopened_stream_that_begins_with_older_states_shows_none_of_them() -> None:
    """As from a server that has not yet read the events that the first had."""
    states = [
        command_pb2.CommandState(status=state.status, revision=place)
        for place, state in ((3, STATES[1]), (2, STATES[0]), (3, STATES[1]), (4, STATES[3]))
    ]
    summaries = [wire.CommandSummary(command_id="c1", agent_id="a1", state=state) for state in states]
    stub: Any = CutStreams([wire.WatchCommandsResponse(commands=[summary]) for summary in summaries])
    many = WatchStreams(stub, "host:1", QUICK).states(["c1"], Deadline(None))
    assert [state.revision async for state in many] == [3, 4]


def seen_in(state: CommandState) -> tuple[CommandStatus, int, int]:
    return state.status, state.receipts.started_ms, state.cancel_ms


EXPECTED = [
    (CommandStatus.ASSIGNED, 0, 0),
    (CommandStatus.ASSIGNED, 5, 0),
    (CommandStatus.ASSIGNED, 5, 7),
    (CommandStatus.CANCELLED, 5, 7),
]
