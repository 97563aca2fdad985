"""Commands that concurrent callers of one client queue through one connection."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from typing import Any

import grpc
import pytest

from distributor import errors
from distributor.client import (
    ClientOptions,
    Command,
    CommandClient,
    CommandRequest,
    CommandStatus,
    OfflinePolicy,
    Queued,
    QueuedCommand,
    queued_command,
)
from distributor.client.translation import command_of
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as wire
from tests.integration.client.conftest import QUICK
from tests.support.answered_errors import Refusal
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

AWAY = Refusal(grpc.StatusCode.UNAVAILABLE, "store is away", "STORE_AWAY")

Outcome = QueuedCommand | BaseException


def requests(count: int, **changes: Any) -> list[CommandRequest]:
    return [CommandRequest(f"a{n % 3}", "PING", {"n": n}, **changes) for n in range(count)]


async def queue_together(client: CommandClient, wanted: Sequence[CommandRequest]) -> list[Outcome]:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await asyncio.gather(*map(client.queue, wanted), return_exceptions=True)


def ids(outcomes: Sequence[Outcome]) -> list[str]:
    for outcome in outcomes:
        assert isinstance(outcome, QueuedCommand), outcome
    return [outcome.command.command_id for outcome in outcomes if isinstance(outcome, QueuedCommand)]


async def stored(client: CommandClient) -> list[str]:
    return [row.command_id async for row in client.list()]


def batch_sizes(faults: RpcFaults) -> list[int]:
    """Commands in each call, in the order of sending: calls in flight at the same time may arrive in any."""
    batches = [one for one in faults.requests if isinstance(one, wire.QueueCommandsRequest)]
    return [len(one.requests) for one in sorted(batches, key=first_number)]


def first_number(batch: wire.QueueCommandsRequest) -> float:
    """The number `n` in the params of its first command, 0 without one."""
    return batch.requests[0].command.params.fields["n"].number_value


def keys_sent(faults: RpcFaults) -> list[str]:
    """The idempotency key of each command that was sent, in order."""
    keys: list[str] = []
    for one in faults.requests:
        if isinstance(one, wire.QueueCommandsRequest):
            keys += [request.idempotency_key for request in one.requests]
        elif isinstance(one, wire.QueueCommandRequest):
            keys.append(one.idempotency_key)
    return keys


def meaning(error: BaseException) -> tuple[object, ...]:
    assert isinstance(error, errors.DistributorError), error
    return type(error), error.message, error.reason, error.field, error.metadata, error.retry_after_seconds


async def test_a_caller_alone_makes_a_call_of_one(client: CommandClient, faults: RpcFaults) -> None:
    for request in requests(3):
        await client.queue(request)

    assert faults.calls == {"QueueCommand": 3}


async def test_callers_at_the_same_time_share_a_call(client: CommandClient, faults: RpcFaults) -> None:
    wanted = requests(300)

    outcomes = await queue_together(client, wanted)

    assert faults.calls["QueueCommand"] == 0
    assert batch_sizes(faults) == [150, 150]
    for request, outcome in zip(wanted, outcomes, strict=True):
        assert isinstance(outcome, QueuedCommand)
        assert not outcome.already_queued
        assert (outcome.command.state.agent_id, outcome.command.params) == (request.agent_id, request.params)
    assert sorted(ids(outcomes)) == sorted(await stored(client))


async def test_callers_that_queue_again_keep_two_calls_in_flight(client: CommandClient, faults: RpcFaults) -> None:
    async def caller(number: int) -> None:
        for _ in range(4):
            await client.queue(CommandRequest("a1", "PING", {"n": number}))

    async with asyncio.timeout(PATIENCE_SECONDS), asyncio.TaskGroup() as group:
        with faults.held("QueueCommands"):
            for number in range(50):
                group.create_task(caller(number))
            await faults.until(lambda: faults.calls["QueueCommands"] == 2)
            assert batch_sizes(faults) == [25, 25]

    # Answers may arrive together, so the callers of two calls can divide differently.
    assert sum(batch_sizes(faults)) + faults.calls["QueueCommand"] == 200
    assert faults.calls.total() <= 16


async def test_a_queued_command_tells_its_id_without_being_decoded(
    client: CommandClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[str] = []

    def counted(command: command_pb2.Command, *others: Any) -> Command:
        decoded.append(command.command_id)
        return command_of(command, *others)

    monkeypatch.setattr(queued_command, "command_of", counted)

    outcomes = await queue_together(client, requests(3))

    queued = [outcome for outcome in outcomes if isinstance(outcome, QueuedCommand)]
    assert sorted(one.command_id for one in queued) == sorted(await stored(client))
    assert decoded == []
    assert queued[0].command is queued[0].command
    assert decoded == [queued[0].command_id]
    assert queued[0].command_id in repr(queued[0])


async def test_callers_gather_while_a_call_is_in_flight(client: CommandClient, faults: RpcFaults) -> None:
    with faults.held("QueueCommand"):
        first = asyncio.create_task(client.queue(requests(1)[0]))
        await faults.until(lambda: faults.calls["QueueCommand"] == 1)
        others = ids(await queue_together(client, requests(20)))
        assert not first.done()

    assert len({(await first).command.command_id, *others}) == 21
    assert batch_sizes(faults) == [20]


async def test_large_commands_are_spread_over_calls(client: CommandClient, faults: RpcFaults) -> None:
    wanted = [CommandRequest("a1", "PING", {"n": n, "text": "x" * 200_000}) for n in range(12)]

    outcomes = await queue_together(client, wanted)

    assert batch_sizes(faults) == [5, 5, 2]
    assert [outcome.command.params for outcome in outcomes if isinstance(outcome, QueuedCommand)] == [
        request.params for request in wanted
    ]
    sizes = [one.ByteSize() for one in faults.requests if isinstance(one, wire.QueueCommandsRequest)]
    assert max(sizes) <= 1_048_576


async def test_each_gets_the_command_that_a_call_alone_would_give(client: CommandClient) -> None:
    # Its agent takes nothing, so that states stay as they were answered.
    async with driven_agent(client.target, "a1") as agent:
        await agent.take_no_more()
        wanted = [
            CommandRequest("a1", "EXEC", {"argv": ["echo", "hi"], "count": 3, "none": None, "deep": [{"a": (1, 2.5)}]}),
            CommandRequest("a1", "PRINT", priority=0, time_limit_seconds=1.5, queue_ttl_seconds=60, max_runs=2),
            CommandRequest("a2", "PRINT", offline=OfflinePolicy.QUEUE),
            CommandRequest("a1", "PRINT", offline=OfflinePolicy.FAIL, idempotency_key="k"),
        ]

        outcomes = await queue_together(client, wanted)

        for outcome in outcomes:
            assert isinstance(outcome, QueuedCommand)
            assert outcome.command == await client.get(outcome.command.command_id)
        state = outcomes[0].command.state  # type: ignore[union-attr]
        assert (state.status, state.priority, state.output_bytes) == (CommandStatus.QUEUED, 50, 0)
        assert state.receipts.queued_ms > 0


REFUSED: dict[str, tuple[CommandRequest, type[errors.DistributorError]]] = {
    "PRIORITY_OUT_OF_RANGE": (CommandRequest("a1", "PING", priority=101), errors.InvalidArgument),
    "INVALID_AGENT_ID": (CommandRequest("", "PING"), errors.InvalidArgument),
    "INVALID_TYPE": (CommandRequest("a1", "1"), errors.InvalidArgument),
    "UNSUPPORTED_TYPE": (CommandRequest("typed", "UNKNOWN"), errors.InvalidArgument),
    "TIME_LIMIT_OUT_OF_RANGE": (CommandRequest("a1", "PING", time_limit_seconds=-1), errors.InvalidArgument),
    "PARAMS_TOO_LARGE": (CommandRequest("a1", "PING", {"a": "x" * 300_000}), errors.InvalidArgument),
    "INVALID_IDEMPOTENCY_KEY": (CommandRequest("a1", "PING", idempotency_key=" "), errors.InvalidArgument),
    "IDEMPOTENCY_KEY_TAKEN": (CommandRequest("a1", "STOP", idempotency_key="taken"), errors.AlreadyExists),
    "AGENT_OFFLINE": (CommandRequest("gone", "PING", offline=OfflinePolicy.FAIL), errors.FailedPrecondition),
    "QUEUE_FULL": (CommandRequest("full", "PING"), errors.ResourceExhausted),
}


@pytest.fixture
async def refusing(client: CommandClient, running: RunningServer) -> AsyncIterator[None]:
    """The state of the server in which each request of REFUSED is refused."""
    await client.queue(CommandRequest("a1", "PING", idempotency_key="taken"))
    await client.queue_many([CommandRequest("full", "PING")] * 1_000)
    async with driven_agent(running.address, "gone"):
        pass
    await running.until_away("gone")
    async with driven_agent(running.address, "typed", types=["EXEC"]):
        yield


async def test_each_gets_the_error_that_a_call_alone_would_give(
    client: CommandClient, faults: RpcFaults, refusing: None
) -> None:
    alone: list[tuple[object, ...]] = []
    for reason, (request, kind) in REFUSED.items():
        with pytest.raises(kind) as caught:
            await client.queue(request)
        assert caught.value.reason == reason
        alone.append(meaning(caught.value))
    faults.clear()
    good = requests(len(REFUSED))

    mixed = [one for pair in zip([request for request, _ in REFUSED.values()], good, strict=True) for one in pair]
    outcomes = await queue_together(client, mixed)

    assert batch_sizes(faults) == [len(mixed)]
    assert [meaning(error) for error in outcomes[::2] if isinstance(error, BaseException)] == alone
    assert len(set(ids(outcomes[1::2]))) == len(good)


async def test_a_key_used_at_the_same_time_queues_once(client: CommandClient, faults: RpcFaults) -> None:
    outcomes = await queue_together(client, [CommandRequest("a1", "PING", {"n": 1}, idempotency_key="k")] * 5)

    assert batch_sizes(faults) == [5]
    assert await stored(client) == list(set(ids(outcomes)))
    queued = [outcome for outcome in outcomes if isinstance(outcome, QueuedCommand)]
    assert [outcome.already_queued for outcome in queued] == [False, True, True, True, True]
    assert all(outcome.command == queued[0].command for outcome in queued)


async def test_a_key_used_before_gives_the_present_state(client: CommandClient, agent: DrivenAgent) -> None:
    first = await client.queue(CommandRequest("a1", "PING", {"n": 1}, idempotency_key="k"))
    await agent.finish(first.command.command_id)

    outcomes = await queue_together(
        client, [CommandRequest("a2", "PING"), CommandRequest("a1", "PING", {"n": 1}, idempotency_key="k")]
    )

    again = outcomes[1]
    assert isinstance(again, QueuedCommand)
    assert again.already_queued
    assert again.command == await client.get(first.command.command_id)
    assert again.command.state.status is CommandStatus.COMPLETED


async def test_a_lost_answer_queues_each_once(client: CommandClient, faults: RpcFaults) -> None:
    faults.lose_answers("QueueCommands")
    named, unnamed = requests(1, idempotency_key="k"), requests(9)

    outcomes = await queue_together(client, named + unnamed)

    assert sorted(ids(outcomes)) == sorted(await stored(client))
    queued = [outcome for outcome in outcomes if isinstance(outcome, QueuedCommand)]
    # As with a call alone: only a key of the caller's own can have been used by others.
    assert [outcome.already_queued for outcome in queued] == [True] + [False] * 9
    assert [outcome.command.params for outcome in queued] == [one.params for one in named + unnamed]


async def test_a_call_that_is_unavailable_is_made_again(client: CommandClient, faults: RpcFaults) -> None:
    faults.refuse("QueueCommands", AWAY)

    outcomes = await queue_together(client, requests(10))

    assert sorted(ids(outcomes)) == sorted(await stored(client))


async def test_tries_are_bounded_for_each(client: CommandClient, faults: RpcFaults) -> None:
    faults.refuse("QueueCommands", AWAY, times=100)
    faults.refuse("QueueCommand", AWAY, times=100)

    outcomes = await queue_together(client, requests(10))

    for outcome in outcomes:
        assert isinstance(outcome, errors.Unavailable)
        assert (outcome.message, outcome.reason) == ("store is away", "STORE_AWAY")
    assert len({id(outcome) for outcome in outcomes}) == 10, "an error for each caller"
    assert len(keys_sent(faults)) == 40
    assert len(set(keys_sent(faults))) == 10


@pytest.fixture
def store_away_half_way(faults: RpcFaults) -> None:
    """Of the first ten commands that are queued together, only five are answered as stored."""
    fails_once = iter([True])

    def half_way(answer: wire.QueueCommandsResponse) -> None:
        if next(fails_once, False):
            for outcome in answer.outcomes[5:]:
                outcome.Clear()
                outcome.error.CopyFrom(wire.QueueError(code="UNAVAILABLE", reason="STORE_AWAY", message="gone"))

    faults.edit_answers("QueueCommands", half_way)


async def test_commands_that_were_not_stored_are_tried_again(
    client: CommandClient, faults: RpcFaults, store_away_half_way: None
) -> None:
    outcomes = await queue_together(client, requests(10))

    keys = keys_sent(faults)
    assert len(keys) == 15
    assert sorted(keys[10:]) == sorted(keys[5:10])
    assert sorted(ids(outcomes)) == sorted(await stored(client))
    assert not any(outcome.already_queued for outcome in outcomes if isinstance(outcome, QueuedCommand))


async def test_commands_of_one_batch_that_were_not_stored_are_tried_again(
    client: CommandClient, faults: RpcFaults, store_away_half_way: None
) -> None:
    outcomes = await client.queue_many([*requests(9), *requests(1, idempotency_key="k")])

    keys = keys_sent(faults)
    assert sorted(keys[10:]) == sorted(keys[5:10])
    queued = [outcome for outcome in outcomes if isinstance(outcome, Queued)]
    assert sorted(one.command_id for one in queued) == sorted(await stored(client))
    assert [one.already_queued for one in queued] == [False] * 9 + [True]


@pytest.mark.parametrize(
    "refusal",
    [
        Refusal(grpc.StatusCode.INTERNAL, "internal error", "INTERNAL"),
        Refusal(grpc.StatusCode.INVALID_ARGUMENT, "requests has 10 commands, the limit is 5", "BATCH_TOO_LARGE"),
        Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "received message larger than max"),
        Refusal(grpc.StatusCode.UNIMPLEMENTED, "unknown method"),
    ],
)
async def test_a_batch_that_is_refused_is_sent_one_by_one(
    client: CommandClient, faults: RpcFaults, refusal: Refusal
) -> None:
    faults.refuse("QueueCommands", refusal)

    outcomes = await queue_together(client, requests(10))

    assert sorted(ids(outcomes)) == sorted(await stored(client))
    assert (faults.calls["QueueCommands"], faults.calls["QueueCommand"]) == (1, 10)


@pytest.mark.parametrize(
    ("refusal", "kind"),
    [
        (Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many", "TOO_MANY_CALLS"), errors.ResourceExhausted),
        (Refusal(grpc.StatusCode.PERMISSION_DENIED, "not you", "DENIED"), errors.PermissionDenied),
    ],
)
async def test_a_refusal_of_all_is_not_asked_for_again(
    client: CommandClient, faults: RpcFaults, refusal: Refusal, kind: type[errors.DistributorError]
) -> None:
    faults.refuse("QueueCommands", refusal)

    outcomes = await queue_together(client, requests(10))

    assert [type(outcome) for outcome in outcomes] == [kind] * 10
    assert faults.calls.total() == 1


async def test_a_caller_cancelled_in_flight_leaves_the_others_their_answers(
    client: CommandClient, faults: RpcFaults
) -> None:
    with faults.held("QueueCommands"):
        tasks = [asyncio.create_task(client.queue(request)) for request in requests(10)]
        await faults.until(lambda: faults.calls["QueueCommands"] == 1)
        tasks[3].cancel()
        outcomes = asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.wait([tasks[3]])

    answered = await outcomes
    assert isinstance(answered.pop(3), asyncio.CancelledError)
    assert set(ids(answered)) < set(await stored(client))


async def test_a_caller_cancelled_before_its_command_left_queues_nothing(
    client: CommandClient, faults: RpcFaults
) -> None:
    tasks = [asyncio.create_task(client.queue(request)) for request in requests(10)]
    await asyncio.sleep(0)
    tasks[3].cancel()

    answered = await asyncio.gather(*tasks, return_exceptions=True)

    assert isinstance(answered.pop(3), asyncio.CancelledError)
    assert sorted(ids(answered)) == sorted(await stored(client))


async def test_calls_of_callers_that_have_all_left_make_room(client: CommandClient, faults: RpcFaults) -> None:
    with faults.held("QueueCommands"):
        for _ in range(6):
            tasks = [asyncio.create_task(client.queue(request)) for request in requests(5)]
            before = faults.calls["QueueCommands"]
            await faults.until(lambda before=before: faults.calls["QueueCommands"] > before)  # type: ignore[misc]
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)

    assert len(ids(await queue_together(client, requests(5)))) == 5


async def test_each_caller_has_its_own_deadline(server: str, faults: RpcFaults) -> None:
    async with CommandClient(server, ClientOptions(call_timeout_seconds=5)) as client:
        with faults.held("QueueCommands"):
            outcomes = await queue_together(client, requests(10))

        for outcome in outcomes:
            assert isinstance(outcome, errors.Unavailable)
            assert outcome.reason == "DEADLINE_EXCEEDED"
            assert "did not answer in time" in outcome.message
        assert len(ids(await queue_together(client, requests(10)))) == 10


async def test_closing_the_client_cancels_its_calls(server: str, faults: RpcFaults) -> None:
    with faults.held("QueueCommands"):
        async with CommandClient(server, QUICK) as client:
            tasks = [asyncio.create_task(client.queue(request)) for request in requests(10)]
            await faults.until(lambda: faults.calls["QueueCommands"] == 1)
            tasks.append(asyncio.create_task(client.queue(requests(1)[0])))
            await asyncio.sleep(0)

        async with asyncio.timeout(PATIENCE_SECONDS):
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [asyncio.CancelledError] * 11
