"""Queueing, reading and cancelling through a real connection."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import grpc
import pytest

from distributor import errors
from distributor.client import (
    AgentStatus,
    ClientOptions,
    CommandClient,
    CommandFilter,
    CommandRequest,
    CommandStatus,
    OfflinePolicy,
    Queued,
)
from distributor.settings.contexts import Context, store_context
from distributor.v1 import command_service_pb2 as wire
from tests.support.answered_errors import Refusal
from tests.support.driven_agent import DrivenAgent, driven_agent
from tests.support.rpc_faults import RpcFaults
from tests.support.running_server import RunningServer

UNKNOWN = "01980000-0000-7000-8000-ffffffffffff"


def now_ms() -> int:
    """Valkey runs on this machine: its clock is ours."""
    return time.time_ns() // 1_000_000


async def stored(client: CommandClient) -> list[str]:
    """Ids of all commands that the server keeps, the newest first."""
    return [row.command_id async for row in client.list()]


async def test_a_command_is_queued_as_asked(client: CommandClient, agent: DrivenAgent) -> None:
    await agent.take_no_more()
    begun_ms = now_ms()
    request = CommandRequest(
        "a1",
        "EXEC",
        {"argv": ["echo", "hi"], "env": {"A": "1"}, "count": 3, "ratio": 0.5, "on": True, "none": None},
        priority=0,
        time_limit_seconds=1.5,
        idle_limit_seconds=0.5,
        queue_ttl_seconds=60,
        offline=OfflinePolicy.FAIL,
        max_runs=2,
        slots=3,
        max_runs_by_reason={"exit_nonzero": 5},
    )

    queued = await client.queue(request)

    command, state = queued.command, queued.command.state
    assert not queued.already_queued
    assert command.params == request.params
    assert isinstance(command.params["count"], int)
    assert (state.agent_id, state.type, state.priority, command.max_runs) == ("a1", "EXEC", 0, 2)
    assert command.slots == 3
    assert (command.time_limit_ms, command.idle_limit_ms, command.queue_ttl_ms) == (1_500, 500, 60_000)
    assert command.max_runs_by_reason == {"exit_nonzero": 5}
    assert command.offline is OfflinePolicy.FAIL
    assert state.status is CommandStatus.QUEUED
    assert begun_ms <= state.receipts.queued_ms <= now_ms()
    assert state.receipts.started_ms == 0
    assert state.agent is not None
    assert state.agent.known
    assert await client.get(command.command_id) == command


async def test_what_is_not_asked_is_left_to_the_server(client: CommandClient, faults: RpcFaults) -> None:
    await client.queue(CommandRequest("a1", "PING"))

    sent = faults.requests[0].command
    assert not sent.HasField("priority")
    assert not sent.HasField("time_limit")
    assert not sent.HasField("queue_ttl")
    assert (sent.max_runs, sent.slots) == (0, 0)


async def test_queueing_again_while_unavailable_queues_once(client: CommandClient, faults: RpcFaults) -> None:
    faults.refuse("QueueCommand", Refusal(grpc.StatusCode.UNAVAILABLE, "store is away"), times=3)

    queued = await client.queue(CommandRequest("a1", "PING"))

    assert faults.calls["QueueCommand"] == 4
    assert {request.idempotency_key for request in faults.requests} == {faults.requests[0].idempotency_key}
    assert await stored(client) == [queued.command.command_id]
    assert not queued.already_queued


async def test_a_lost_answer_does_not_make_a_new_command_look_old(client: CommandClient, faults: RpcFaults) -> None:
    faults.lose_answers("QueueCommand")

    queued = await client.queue(CommandRequest("a1", "PING"))

    assert faults.calls["QueueCommand"] == 2
    assert await stored(client) == [queued.command.command_id]
    assert not queued.already_queued


async def test_tries_are_bounded(client: CommandClient, faults: RpcFaults) -> None:
    refusal = Refusal(grpc.StatusCode.UNAVAILABLE, "store is away", "STORE_AWAY")
    faults.refuse("QueueCommand", refusal, times=100)

    with pytest.raises(errors.Unavailable, match="store is away") as caught:
        await client.queue(CommandRequest("a1", "PING"))

    assert caught.value.reason == "STORE_AWAY"
    assert faults.calls["QueueCommand"] == 4


async def test_a_refusal_is_not_tried_again(client: CommandClient, faults: RpcFaults) -> None:
    faults.refuse("QueueCommand", Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue is full", "QUEUE_FULL"))

    with pytest.raises(errors.ResourceExhausted, match="queue is full"):
        await client.queue(CommandRequest("a1", "PING"))

    assert faults.calls["QueueCommand"] == 1


async def test_a_wait_asked_for_by_the_server_is_kept(server: str, faults: RpcFaults) -> None:
    faults.refuse("GetCommand", Refusal(grpc.StatusCode.UNAVAILABLE, "draining", "DRAINING", retry_after_ms=60_000))

    async with CommandClient(server, ClientOptions(call_timeout_seconds=5)) as client:
        with pytest.raises(errors.Unavailable, match="draining") as caught:
            await client.get(UNKNOWN)

    assert caught.value.retry_after_seconds == 60
    assert faults.calls["GetCommand"] == 1, "the wait goes beyond the deadline of the call"


async def test_the_same_key_gives_the_same_command(client: CommandClient) -> None:
    first = await client.queue(CommandRequest("a1", "PING", idempotency_key="k"))
    again = await client.queue(CommandRequest("a1", "PING", idempotency_key="k"))

    assert again.command.command_id == first.command.command_id
    assert (first.already_queued, again.already_queued) == (False, True)
    with pytest.raises(errors.AlreadyExists) as caught:
        await client.queue(CommandRequest("a1", "STOP", idempotency_key="k"))
    assert caught.value.reason == "IDEMPOTENCY_KEY_TAKEN"
    assert caught.value.metadata == {"command_id": first.command.command_id}


async def test_status_details_become_the_error(client: CommandClient) -> None:
    with pytest.raises(errors.InvalidArgument, match="must be 0 to 100, not 101") as caught:
        await client.queue(CommandRequest("a1", "PING", priority=101))

    assert caught.value.reason == "PRIORITY_OUT_OF_RANGE"
    assert caught.value.field == "command.priority"
    assert caught.value.metadata == {}


NO_JSON: Any = object()


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (CommandRequest("a1", "PING", {"a": {"b": [NO_JSON]}}), "command.params.a.b[0]"),
        (CommandRequest("a1", "PING", priority=2**40), "command.priority"),
        (CommandRequest("a1", "PING", time_limit_seconds=1e300), "command.time_limit"),
        (CommandRequest("a1", "PING", queue_ttl_seconds=float("nan")), "command.queue_ttl"),
    ],
)
async def test_what_has_no_wire_form_is_refused_before_sending(
    client: CommandClient, faults: RpcFaults, request_: CommandRequest, field: str
) -> None:
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.queue(request_)

    assert caught.value.field == field
    assert faults.calls.total() == 0


async def test_many_commands_travel_in_calls_of_a_thousand(client: CommandClient, faults: RpcFaults) -> None:
    # One agent may have 1,000 commands waiting.
    outcomes = await client.queue_many(CommandRequest(f"a{n % 3}", "PING", {"n": n}) for n in range(2_001))

    assert faults.calls["QueueCommands"] == 3
    ids = [outcome.command_id for outcome in outcomes if isinstance(outcome, Queued)]
    assert len(ids) == 2_001
    rows = [row async for row in client.list()]
    assert [row.command_id for row in reversed(rows)] == ids
    assert [row.params_summary for row in reversed(rows)] == [f"n={n}" for n in range(2_001)]


async def test_each_of_many_has_its_own_outcome(client: CommandClient) -> None:
    good, bad = CommandRequest("a1", "PING"), CommandRequest("a1", "PING", priority=-1)

    outcomes = await client.queue_many([good, bad, good])

    match outcomes:
        case [Queued(), errors.InvalidArgument(reason="PRIORITY_OUT_OF_RANGE", field="command.priority"), Queued()]:
            pass
        case _:
            pytest.fail(f"unexpected outcomes {outcomes}")


async def test_nothing_queued_raises_and_something_queued_is_told(client: CommandClient, faults: RpcFaults) -> None:
    refusal = Refusal(grpc.StatusCode.PERMISSION_DENIED, "not you", "DENIED")
    many = [CommandRequest("a1", "PING"), CommandRequest("a2", "PING")] * 750

    faults.refuse("QueueCommands", refusal)
    with pytest.raises(errors.PermissionDenied):
        await client.queue_many(many)

    faults.refuse("QueueCommands", refusal, after=1)
    outcomes = await client.queue_many(many)
    assert [type(outcome) for outcome in outcomes] == [Queued] * 1_000 + [errors.PermissionDenied] * 500


async def test_no_commands_is_no_call(client: CommandClient, faults: RpcFaults) -> None:
    assert await client.queue_many([]) == []
    assert faults.calls.total() == 0


async def test_a_result_carries_plain_values(client: CommandClient, agent: DrivenAgent) -> None:
    await agent.take_no_more()
    begun_ms = now_ms()
    command_id = (await client.queue(CommandRequest("a1", "EXEC"))).command.command_id
    with pytest.raises(errors.FailedPrecondition, match="not ended") as caught:
        await client.result(command_id)
    assert (caught.value.reason, caught.value.metadata) == ("NOT_ENDED", {"status": "queued"})

    await agent.take_more()
    await agent.start(command_id)
    await agent.finish(command_id, exit_code=0, data={"rows": [1, 2.5, None], "ok": True})

    result = await client.result(command_id)
    assert result.status is CommandStatus.COMPLETED
    assert result.exit_code == 0
    assert result.data == {"rows": [1, 2.5, None], "ok": True}
    assert begun_ms <= result.finished_ms <= now_ms()


async def test_no_exit_code_is_not_zero(client: CommandClient, agent: DrivenAgent) -> None:
    command_id = (await client.queue(CommandRequest("a1", "PING"))).command.command_id
    await agent.finish(command_id)

    assert (await client.result(command_id)).exit_code is None
    assert (await client.result(command_id)).data is None


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda client: client.get(UNKNOWN), "UNKNOWN_COMMAND"),
        (lambda client: client.result(UNKNOWN), "UNKNOWN_COMMAND"),
        (lambda client: client.cancel(UNKNOWN), "UNKNOWN_COMMAND"),
        (lambda client: client.wait(UNKNOWN), "UNKNOWN_COMMAND"),
        (lambda client: client.agent("nobody"), "UNKNOWN_AGENT"),
        (lambda client: anext(client.wait_many([UNKNOWN])), "UNKNOWN_COMMAND"),
        (lambda client: anext(client.watch(UNKNOWN)), "UNKNOWN_COMMAND"),
    ],
)
async def test_unknown_is_not_found(client: CommandClient, call: Callable[[CommandClient], Any], reason: str) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await call(client)
    assert caught.value.reason == reason


async def test_cancel_of_a_queued_command_ends_it(client: CommandClient) -> None:
    command_id = (await client.queue(CommandRequest("a1", "PING"))).command.command_id

    state = await client.cancel(command_id, "changed my mind")

    assert (state.command_id, state.agent_id, state.type) == (command_id, "a1", "PING")
    assert state.status is CommandStatus.CANCELLED
    assert (state.reason.code, state.reason.message) == ("cancelled", "changed my mind")


async def test_cancel_of_a_running_command_asks_its_agent(client: CommandClient, agent: DrivenAgent) -> None:
    begun_ms = now_ms()
    command_id = (await client.queue(CommandRequest("a1", "EXEC"))).command.command_id
    await agent.start(command_id)

    state = await client.cancel(command_id)

    assert state.status is CommandStatus.ASSIGNED
    assert begun_ms <= state.cancel_ms <= now_ms()
    await agent.wire.until(lambda: [cancel.command_id for cancel in agent.wire.cancels] == [command_id])


async def test_list_goes_through_all_pages_newest_first(client: CommandClient, faults: RpcFaults) -> None:
    outcomes = await client.queue_many(CommandRequest(f"a{n % 3}", "PING") for n in range(2_500))

    ids = [row.command_id async for row in client.list()]

    assert ids == [outcome.command_id for outcome in reversed(outcomes) if isinstance(outcome, Queued)]
    assert len(ids) == 2_500
    assert faults.calls["ListCommands"] == 3


async def test_list_filters(client: CommandClient, faults: RpcFaults, agent: DrivenAgent) -> None:
    begun_ms = now_ms()
    first, *_ = await client.queue_many(
        CommandRequest(agent, kind) for agent in ("a1", "a2") for kind in ("PING", "STOP")
    )
    assert isinstance(first, Queued)
    await agent.finish(first.command_id)
    ended_ms = now_ms() + 1

    wanted = CommandFilter(
        agent_id="a1",
        statuses=[CommandStatus.COMPLETED, CommandStatus.FAILED],
        type="PING",
        queued_after_ms=begun_ms,
        queued_before_ms=ended_ms,
    )
    rows = [row async for row in client.list(wanted)]

    assert [(row.agent_id, row.type, row.status) for row in rows] == [("a1", "PING", CommandStatus.COMPLETED)]
    sent = faults.requests[-1].filter
    assert (sent.queued_after.ToMilliseconds(), sent.queued_before.ToMilliseconds()) == (begun_ms, ended_ms)


async def test_a_page_tells_where_the_next_begins(client: CommandClient) -> None:
    await client.queue_many([CommandRequest("a1", "PING")] * 3)

    first = await client.list_page(page_size=2)
    second = await client.list_page(page_size=2, page_token=first.next_page_token)

    assert (len(first.items), len(second.items), second.next_page_token) == (2, 1, "")
    with pytest.raises(errors.InvalidArgument) as caught:
        await client.list_page(page_token="nonsense")
    assert caught.value.field == "page_token"


async def test_agents(client: CommandClient, running: RunningServer) -> None:
    begun_ms = now_ms()
    async with driven_agent(running.address, "a1"):
        pass
    await running.until_away("a1")
    saying = {"types": ["EXEC"], "labels": {"zone": "eu"}, "agent_version": "1.0"}
    async with driven_agent(running.address, "a2", **saying):
        agents = [agent async for agent in client.agents()]
        assert [agent.agent_id for agent in agents] == ["a1", "a2"]
        assert agents[0].status is AgentStatus.OFFLINE
        assert begun_ms <= agents[0].away_since_ms <= now_ms()
        assert (agents[1].types, agents[1].labels, agents[1].version) == (("EXEC",), {"zone": "eu"}, "1.0")
        assert [agent.agent_id async for agent in client.agents([AgentStatus.ONLINE])] == ["a2"]
        assert await client.agent("a2") == agents[1]


async def test_a_status_of_a_newer_server_is_an_error_that_says_so(client: CommandClient, faults: RpcFaults) -> None:
    def from_the_future(answer: wire.GetCommandResponse) -> None:
        answer.state.status = 42  # type: ignore[assignment]

    command_id = (await client.queue(CommandRequest("a1", "PING"))).command.command_id
    faults.edit_answers("GetCommand", from_the_future)

    with pytest.raises(errors.DistributorError, match="42"):
        await client.get(command_id)


async def test_outside_of_async_with_it_says_so() -> None:
    with pytest.raises(RuntimeError, match="async with"):
        await CommandClient("127.0.0.1:1").get(UNKNOWN)


async def test_ended_commands_are_retried(client: CommandClient, agent: DrivenAgent) -> None:
    await agent.take_no_more()
    old = (await client.queue(CommandRequest("a1", "EXEC", {"argv": ["false"]}))).command_id
    running = await client.retry_commands([old])
    assert isinstance(running.commands[0].outcome, errors.FailedPrecondition)
    assert running.commands[0].outcome.reason == "NOT_ENDED"
    await client.cancel(old)
    where = CommandFilter(agent_id="a1", statuses=[CommandStatus.CANCELLED])

    counted = await client.retry_commands(where=where, dry_run=True)
    assert (counted.commands, counted.matched, counted.more) == ((), 1, False)
    (retried,) = (await client.retry_commands(where=where, limit=1, idempotency_key="key")).commands
    assert retried.command_id == old
    assert isinstance(retried.outcome, str)
    command = await client.get(retried.outcome)
    assert (command.retry_of, command.params) == (old, {"argv": ["false"]})
    assert (await client.retry_commands([old], idempotency_key="key")).commands == (retried,)
    with pytest.raises(errors.InvalidArgument, match="name command_ids, or set at least one field of filter"):
        await client.retry_commands()


async def test_a_configured_client_calls_what_command_sender_would(monkeypatch: pytest.MonkeyPatch) -> None:
    store_context(Context("first", "a.example:50051", token="one"))
    store_context(Context("second", "b.example:50051", token="two"))
    assert CommandClient.configured().target == "a.example:50051"
    assert CommandClient.configured("second").target == "b.example:50051"
    monkeypatch.setenv("DISTRIBUTOR_SERVER", "c.example:50051")
    assert CommandClient.configured().target == "c.example:50051"
