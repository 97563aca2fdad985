"""Queueing, idempotency, and what can be read afterwards."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import grpc
import pytest
from google.protobuf.json_format import ParseDict
from google.protobuf.struct_pb2 import Struct, Value
from valkey.asyncio import Valkey

from distributor.dispatch.command_service import CommandService
from distributor.errors import Unavailable
from distributor.v1 import command_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.wire.json_values import MAX_DEPTH, plain_struct
from tests.support.received_errors import error_of
from tests.support.running_server import (
    COMPLETED,
    FAILED,
    QUEUED,
    RunningServer,
    keyspace,
    queue_request,
    running_server,
)

FAIL = command_pb2.OFFLINE_POLICY_FAIL


async def test_what_was_queued_is_answered_with_the_defaults_and_read_back(server: RunningServer) -> None:
    response = await server.commands.QueueCommand(queue_request(params={"reason": "test"}, priority=0))
    assert not response.already_queued
    assert response.command.priority == 0
    assert response.command.time_limit.seconds == 300
    assert response.state.status == QUEUED
    assert not response.state.agent_known
    assert (response.state.HasField("agent_known"), response.state.HasField("output_bytes")) == (True, True)
    got = await server.get(response.command.command_id)
    assert got.command == response.command
    assert got.state.status == QUEUED
    assert got.state.receipts.queue_time == response.state.receipts.queue_time


async def test_the_four_fixed_keys(server: RunningServer) -> None:
    command_id = await server.queue()
    names = {f"command:queue:{command_id}", f"command:status:{command_id}", f"agent:agent123:command:list:{command_id}"}
    assert {name.encode() for name in names} <= (await keyspace(server.settings.valkey_url)).keys()
    async with server.agent() as agent:
        await agent.finish(await agent.next_assignment(command_id), exit_code=0)
    async with Valkey.from_url(server.settings.valkey_url) as client:
        stored = json.loads(await client.get(f"cmd:result:{command_id}"))
        assert (stored["commandId"], stored["status"], stored["exitCode"]) == (command_id, "completed", 0)
        assert await client.hget(f"command:status:{command_id}", "status") == b"completed"
        assert not await client.exists(f"command:queue:{command_id}")
        assert await client.ttl(f"cmd:result:{command_id}") > 0


async def test_the_same_key_and_request_give_the_same_command(server: RunningServer) -> None:
    request = queue_request(idempotency_key="key-1", params={"a": 1, "b": 2})
    first = await server.commands.QueueCommand(request)
    before = await keyspace(server.settings.valkey_url)
    again = await server.commands.QueueCommand(request)
    assert again.already_queued
    assert again.command == first.command
    assert await keyspace(server.settings.valkey_url) == before


async def test_the_same_key_after_the_command_has_ended(server: RunningServer) -> None:
    request = queue_request(idempotency_key="key-1")
    command_id = (await server.commands.QueueCommand(request)).command.command_id
    async with server.agent() as agent:
        await agent.finish(await agent.next_assignment(command_id))
        again = await server.commands.QueueCommand(request)
        assert (again.already_queued, again.command.command_id) == (True, command_id)
        assert again.state.status == COMPLETED
        await agent.heartbeat()
        assert len(agent.assignments) == 1


async def test_the_same_key_for_another_request_is_refused(server: RunningServer) -> None:
    first = await server.commands.QueueCommand(queue_request(idempotency_key="key-1"))
    before = await keyspace(server.settings.valkey_url)
    error = await error_of(server.commands.QueueCommand(queue_request(idempotency_key="key-1", priority=51)))
    assert error[:3] == ("ALREADY_EXISTS", "idempotency_key", "IDEMPOTENCY_KEY_TAKEN")
    assert first.command.command_id in error.text
    assert await keyspace(server.settings.valkey_url) == before


@pytest.mark.parametrize(
    "spelt_out",
    [
        {"priority": 50},
        {"slots": 1},
        {"time_limit": 300.0},
        {"queue_ttl": 86_400.0},
        {"max_runs": 1},
        {"offline_policy": command_pb2.OFFLINE_POLICY_QUEUE},
        {"params": {}},
    ],
    ids=lambda fields: next(iter(fields)),
)
async def test_a_default_that_is_spelt_out_is_the_same_request(
    server: RunningServer, spelt_out: dict[str, Any]
) -> None:
    first = await server.commands.QueueCommand(queue_request(idempotency_key="key-1"))
    again = await server.commands.QueueCommand(queue_request(idempotency_key="key-1", **spelt_out))
    assert (again.already_queued, again.command.command_id) == (True, first.command.command_id)


async def test_params_in_another_order_are_the_same_request(server: RunningServer) -> None:
    def request(names: str) -> bytes:
        """Put together by hand: on the wire, the params have this order."""
        fields = [Struct(fields={name: Value(bool_value=True)}).SerializeToString() for name in names]
        params = b"".join(b"\x22" + bytes([len(field)]) + field for field in fields)
        command = queue_request().command.SerializeToString() + params
        return b"\x0a" + bytes([len(command)]) + command + b"\x12\x05key-1"

    call: grpc.aio.UnaryUnaryMultiCallable[bytes, pb.QueueCommandResponse] = server.channel.unary_unary(
        "/distributor.v1.CommandService/QueueCommand", response_deserializer=pb.QueueCommandResponse.FromString
    )
    first, again = await call(request("abcdefgh")), await call(request("hgfedcba"))
    assert sorted(first.command.params.fields) == list("abcdefgh")
    assert (first.already_queued, again.already_queued) == (False, True)


async def test_the_same_request_differs_after_the_defaults_have_changed(valkey_url: str) -> None:
    request = queue_request(idempotency_key="key-1")
    async with running_server(valkey_url, time_limit=60.0) as server:
        first = (await server.commands.QueueCommand(request)).command.command_id
    async with running_server(valkey_url, time_limit=90.0) as server:
        error = await error_of(server.commands.QueueCommand(request))
        assert error.reason == "IDEMPOTENCY_KEY_TAKEN"
        as_it_was = queue_request(idempotency_key="key-1", time_limit=60.0)
        assert (await server.commands.QueueCommand(as_it_was)).command.command_id == first


async def test_what_nobody_knows_is_not_stored(server: RunningServer) -> None:
    """Fields of a later version: nobody has checked their size."""
    request = queue_request(params={"text": "x"})
    encoded = request.command.SerializeToString()
    unknown = b"\xba\x3e\x80\x80\x40" + b"x" * 2**20
    request.command.ParseFromString(encoded + unknown)
    command_id = (await server.commands.QueueCommand(request)).command.command_id
    stored = (await server.get(command_id)).command
    assert stored.params["text"] == "x"
    assert stored.ByteSize() < 1_000


async def test_params_as_deep_as_the_limit_reach_the_agent(server: RunningServer) -> None:
    deep: list[object] = []
    for _ in range(MAX_DEPTH - 2):
        deep = [deep]
    async with server.agent() as agent:
        command_id = await server.queue(params={"deep": deep})
        assignment = await agent.next_assignment(command_id)
        assert plain_struct(assignment.command.params) == {"deep": deep}


async def test_callers_that_race_with_one_key_get_one_command(server: RunningServer) -> None:
    request = queue_request(idempotency_key="key-1")
    answers = await asyncio.gather(*(server.commands.QueueCommand(request) for _ in range(20)))
    assert len({answer.command.command_id for answer in answers}) == 1
    assert sorted(answer.already_queued for answer in answers) == [False] + [True] * 19


async def test_a_key_twice_in_one_batch(server: RunningServer) -> None:
    request = queue_request(idempotency_key="key-1")
    other = queue_request("agent456", idempotency_key="key-1")
    response = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=[request, request, other]))
    first, second, third = response.outcomes
    assert (first.already_queued, second.already_queued) == (False, True)
    assert first.command_id == second.command_id
    assert third.error.code == "ALREADY_EXISTS"


async def test_a_thousand_in_one_call_are_answered_in_order(server: RunningServer) -> None:
    async with server.agent("agent-1"):
        requests = [queue_request(f"agent-{n % 3}", params={"n": n}) for n in range(1_000)]
        response = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests))
        ids = [outcome.command_id for outcome in response.outcomes]
        assert len(set(ids)) == 1_000
        assert ids == sorted(ids)
        assert [outcome.agent_connected for outcome in response.outcomes[:3]] == [False, True, False]
        assert [outcome.agent_known for outcome in response.outcomes[:3]] == [False, True, False]
        last = await server.get(ids[-1])
        assert (last.command.agent_id, dict(last.command.params)) == ("agent-0", {"n": 999})


async def test_an_empty_batch(server: RunningServer) -> None:
    assert not (await server.commands.QueueCommands(pb.QueueCommandsRequest())).outcomes


async def test_a_command_that_must_not_wait(server: RunningServer) -> None:
    async with server.agent() as agent:
        command_id = await server.queue(offline_policy=FAIL)
        await agent.next_assignment(command_id)
        await agent.leave()
    before = await keyspace(server.settings.valkey_url)
    error = await error_of(server.commands.QueueCommand(queue_request(offline_policy=FAIL)))
    assert error[:3] == ("FAILED_PRECONDITION", "command.agent_id", "AGENT_OFFLINE")
    assert "agent 'agent123' is not connected" in error.text
    assert await keyspace(server.settings.valkey_url) == before


async def test_a_waiting_command_says_since_when_its_agent_is_away(server: RunningServer) -> None:
    async with server.agent() as agent:
        await agent.leave()
    away_since = (await server.agent_info()).away_since
    queued = await server.commands.QueueCommand(queue_request())
    assert (queued.state.agent_known, queued.state.agent_away_since) == (True, away_since)
    state = await server.state(queued.command.command_id)
    assert (state.agent_known, state.agent_away_since) == (True, away_since)
    again = await server.commands.QueueCommand(queue_request(idempotency_key="k"))
    again = await server.commands.QueueCommand(queue_request(idempotency_key="k"))
    assert (again.already_queued, again.state.agent_known, again.state.agent_away_since) == (True, True, away_since)
    batch = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=[queue_request()]))
    assert (batch.outcomes[0].agent_connected, batch.outcomes[0].agent_known) == (False, True)
    never_seen = await server.state(await server.queue("never-seen"))
    assert not never_seen.agent_known
    assert not never_seen.HasField("agent_away_since")


async def test_a_result_before_the_end(server: RunningServer) -> None:
    command_id = await server.queue()
    error = await error_of(server.commands.GetResult(pb.GetResultRequest(command_id=command_id)))
    assert error[:3] == ("FAILED_PRECONDITION", "command_id", "NOT_ENDED")
    assert "it is queued" in error.text


async def test_a_result_is_read_as_the_agent_wrote_it(server: RunningServer) -> None:
    data = {"text": 'quotes " and \\ and é', "list": [1, 2.5, None, True], "empty": {}}
    async with server.agent() as agent:
        command_id = await server.queue(command_type="EXEC")
        assignment = await agent.next_assignment(command_id)
        reason = command_pb2.Reason(code="exit_nonzero", message='said "no"\n')
        await agent.finish(assignment, status=FAILED, data=ParseDict(data, Value()), exit_code=-9, reason=reason)
    result = (await server.commands.GetResult(pb.GetResultRequest(command_id=command_id))).result
    assert (result.agent_id, result.type, result.attempt, result.exit_code) == ("agent123", "EXEC", 1, -9)
    assert result.data == ParseDict(data, Value())
    assert result.reason == reason


async def every_page(server: RunningServer, **request: Any) -> list[pb.CommandSummary]:
    """All pages of a list, which must end."""
    found: list[pb.CommandSummary] = []
    token = ""
    while True:
        page = await server.commands.ListCommands(pb.ListCommandsRequest(page_token=token, **request))
        found += page.commands
        token = page.next_page_token
        if not token:
            return found


async def test_a_list_is_newest_first_page_by_page(server: RunningServer) -> None:
    ids = await server.queue_many(25)
    for page_size in (1, 7, 25, 1_000):
        listed = await every_page(server, page_size=page_size)
        assert [command.command_id for command in listed] == ids[::-1]
    unsized = await server.commands.ListCommands(pb.ListCommandsRequest())
    assert len(unsized.commands) == 25


async def test_a_list_goes_on_where_it_was_while_commands_arrive(server: RunningServer) -> None:
    ids = await server.queue_many(10)
    first = await server.commands.ListCommands(pb.ListCommandsRequest(page_size=5))
    await server.queue_many(10)
    second = await server.commands.ListCommands(pb.ListCommandsRequest(page_size=5, page_token=first.next_page_token))
    listed = [command.command_id for command in (*first.commands, *second.commands)]
    assert listed == ids[::-1]


async def test_each_filter_and_all_together(server: RunningServer) -> None:
    async with server.agent(capacity=1) as agent:
        done = await server.queue()
        await agent.finish(await agent.next_assignment(done), status=FAILED)
        await agent.leave()
    waiting = await server.queue()
    exec_waiting = await server.queue(command_type="EXEC")
    other = await server.queue("agent456")
    between = (await server.state(exec_waiting)).receipts.queue_time

    async def listed(**wanted: Any) -> set[str]:
        found = await every_page(server, filter=pb.CommandFilter(**wanted))
        return {command.command_id for command in found}

    assert await listed() == {done, waiting, exec_waiting, other}
    assert await listed(agent_id="agent123") == {done, waiting, exec_waiting}
    assert await listed(statuses=[FAILED]) == {done}
    assert await listed(statuses=[FAILED, QUEUED]) == {done, waiting, exec_waiting, other}
    assert await listed(type="EXEC") == {exec_waiting}
    assert exec_waiting in await listed(queued_after=between)
    assert exec_waiting not in await listed(queued_before=between)
    assert await listed(agent_id="agent123", statuses=[QUEUED], type="PRINT") == {waiting}
    assert await listed(agent_id="nobody") == set()


async def test_lists_and_watchers_say_what_a_command_does(server: RunningServer) -> None:
    argv = ["sh", "-c", "echo hi"]
    async with server.agent() as agent:
        command_id = await server.queue(command_type="EXEC", params={"argv": argv, "env": {"TOKEN": "secret"}})
        watch = server.commands.WatchCommand(pb.WatchCommandRequest(command_id=command_id))
        await agent.finish(await agent.next_assignment(command_id))
        told = [update.command.params_summary async for update in watch if update.HasField("command")]
    (listed,) = await every_page(server)
    assert {*told, listed.params_summary} == {"sh -c 'echo hi'"}


async def test_agents_are_listed_by_id_page_by_page(server: RunningServer) -> None:
    async with server.agent("b", capacity=1) as busy, server.agent("c"), server.agent("a") as gone:
        await gone.leave()
        await busy.next_assignment(await server.queue("b"))
        await server.queue("a")
        listed: list[pb.Agent] = []
        token = ""
        while True:
            page = await server.commands.ListAgents(pb.ListAgentsRequest(page_size=2, page_token=token))
            listed += page.agents
            token = page.next_page_token
            if not token:
                break
        assert [(agent.agent_id, agent.status, agent.running, agent.queued) for agent in listed] == [
            ("a", pb.AGENT_STATUS_OFFLINE, 0, 1),
            ("b", pb.AGENT_STATUS_BUSY, 1, 0),
            ("c", pb.AGENT_STATUS_ONLINE, 0, 0),
        ]
        online = pb.ListAgentsRequest(statuses=[pb.AGENT_STATUS_ONLINE])
        assert [agent.agent_id for agent in (await server.commands.ListAgents(online)).agents] == ["c"]


@pytest.mark.parametrize(("capacity", "status"), [(4, pb.AGENT_STATUS_BUSY), (6, pb.AGENT_STATUS_ONLINE)])
async def test_an_agent_is_busy_when_all_its_slots_are_used(
    server: RunningServer, capacity: int, status: pb.AgentStatus.ValueType
) -> None:
    """However many commands use them; control commands use none."""
    async with server.agent(capacity=capacity) as agent:
        for command_type, slots in (("PRINT", 3), ("PRINT", 1), ("PING", 1)):
            await agent.next_assignment(await server.queue(command_type=command_type, slots=slots))
        info = await server.agent_info()
        assert (info.status, info.running, info.slots_used, info.capacity) == (status, 3, 4, capacity)


@pytest.mark.parametrize("capacity", [1, 5])
async def test_higher_priorities_overtake_what_waits(server: RunningServer, capacity: int) -> None:
    async with server.agent(capacity=capacity) as agent:
        running = await server.queue_many(capacity)
        await agent.assigned(capacity)
        normal = await server.queue_many(2)
        urgent = await server.queue_many(2, priority=100)
        for place in range(capacity + 4):
            await agent.finish((await agent.assigned(place + 1))[place])
        assert agent.command_ids == running + urgent + normal


async def test_a_batch_with_commands_answers_as_a_call_for_each(server: RunningServer) -> None:
    def message(**command: Any) -> pb.QueueCommandRequest:
        return queue_request(params={"a": [1]}, idempotency_key="k", **command)

    first = await server.commands.QueueCommand(message())
    requests = [message(), queue_request("agent456", params={"b": 2}), queue_request(priority=101), message(priority=1)]
    response = await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests, with_commands=True))
    again, new, *refused = response.outcomes

    for outcome, params in ((again, {"a": [1]}), (new, {"b": 2})):
        stored = await server.get(outcome.command_id)
        assert dict(stored.command.params) == params
        stored.command.ClearField("params")
        assert (outcome.command, outcome.state) == (stored.command, stored.state)
    assert (again.already_queued, again.command_id) == (True, first.command.command_id)
    for outcome, request in zip(refused, requests[2:], strict=True):
        alone = await error_of(server.commands.QueueCommand(request))
        error = outcome.error
        assert (error.code, error.field, error.reason, error.message) == alone[:4]
        assert not outcome.HasField("command")
    assert refused[1].error.metadata == {"command_id": first.command.command_id}


async def test_a_batch_answers_ids_alone_unless_asked_for_more(server: RunningServer) -> None:
    request = queue_request(params={"text": "x" * 1_000})
    for with_commands, most_bytes in ((False, 50), (True, 160)):
        batch = pb.QueueCommandsRequest(requests=[request] * 100, with_commands=with_commands)
        assert (await server.commands.QueueCommands(batch)).ByteSize() <= 100 * most_bytes


async def test_an_earlier_command_that_cannot_be_read_is_an_error_of_its_own(
    server: RunningServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    keyed = queue_request(idempotency_key="k")
    await server.commands.QueueCommand(keyed)

    async def away(command_id: str) -> None:
        raise Unavailable("Valkey is away", reason="STORE_AWAY", retry_after_seconds=1.5)

    monkeypatch.setattr(CommandService, "get", lambda _, caller, command_id: away(command_id))
    batch = pb.QueueCommandsRequest(requests=[queue_request(), keyed], with_commands=True)
    new, earlier = (await server.commands.QueueCommands(batch)).outcomes
    assert new.command_id
    assert (earlier.error.code, earlier.error.reason) == ("UNAVAILABLE", "STORE_AWAY")
    assert earlier.error.retry_delay.ToMilliseconds() == 1_500
    assert earlier == pb.QueueCommandOutcome(error=earlier.error)
