"""Attaching: what a Hello may say, and which of two sessions wins."""

from __future__ import annotations

from typing import Any, NamedTuple

import grpc
import pytest
from google.protobuf.duration_pb2 import Duration

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_service_pb2
from distributor.wire.status_details import details_of, retry_after_of
from tests.support.received_errors import ToldError, told
from tests.support.running_server import RunningServer, keyspace, running_server
from tests.support.waiting import eventually, until
from tests.support.wire_agent import WireAgent, hello, opened_stream


class Mistake(NamedTuple):
    name: str
    changes: dict[str, Any]
    field: str
    reason: str
    limit: str


UNKNOWN = "00000000-0000-7000-8000-000000000000"
HELD = [pb.RunningCommand(command_id=f"c{n}", lease_id="l") for n in range(1_001)]

MISTAKES = [
    Mistake("empty agent id", {"agent_id": ""}, "hello.agent_id", "INVALID_AGENT_ID", "1 to 128"),
    Mistake("over-long agent id", {"agent_id": "a" * 129}, "hello.agent_id", "INVALID_AGENT_ID", "1 to 128"),
    Mistake("badly spelt agent id", {"agent_id": "a/b"}, "hello.agent_id", "INVALID_AGENT_ID", "A-Z a-z 0-9 . _ -"),
    Mistake("no instance", {"instance_id": ""}, "hello.instance_id", "INVALID_HELLO", "1 to 128 characters"),
    Mistake("over-long instance", {"instance_id": "i" * 129}, "hello.instance_id", "INVALID_HELLO", "1 to 128"),
    Mistake("no capacity", {"capacity": 0}, "hello.capacity", "INVALID_HELLO", "1 to 1,000, not 0"),
    Mistake("negative capacity", {"capacity": -5}, "hello.capacity", "INVALID_HELLO", "1 to 1,000, not -5"),
    Mistake(
        "negative orphan_after",
        {"orphan_after": Duration(seconds=-1)},
        "hello.orphan_after",
        "INVALID_HELLO",
        "negative",
    ),
    Mistake("huge capacity", {"capacity": 1_001}, "hello.capacity", "INVALID_HELLO", "1 to 1,000, not 1,001"),
    Mistake("too many types", {"types": ["T"] * 101}, "hello.types", "INVALID_HELLO", "101 entries, the limit is 100"),
    Mistake("badly spelt type", {"types": ["A,B"]}, "hello.types", "INVALID_HELLO", "'A,B', which is not a command"),
    Mistake(
        "too many labels",
        {"labels": {f"l{n}": "v" for n in range(65)}},
        "hello.labels",
        "INVALID_HELLO",
        "65 entries, the limit is 64",
    ),
    Mistake("label without name", {"labels": {"": "v"}}, "hello.labels", "INVALID_HELLO", "must have names"),
    Mistake("over-long label", {"labels": {"l": "v" * 256}}, "hello.labels", "INVALID_HELLO", "256 characters each"),
    Mistake(
        "too many held commands", {"running": HELD}, "hello.running", "INVALID_HELLO", "1,001 held commands, the limit"
    ),
    Mistake(
        "badly spelt held command",
        {"running": [pb.RunningCommand(command_id="nonsense", lease_id="l")]},
        "hello.running.command_id",
        "INVALID_COMMAND_ID",
        "must be a command id, not 'nonsense'",
    ),
    Mistake(
        "over-long lease",
        {"unacknowledged": [pb.RunningCommand(command_id=UNKNOWN, lease_id="l" * 65)]},
        "hello.unacknowledged.lease_id",
        "INVALID_HELLO",
        "at most 64 characters, not 65",
    ),
]


async def refusal_of(server: RunningServer, message: pb.ConnectRequest) -> ToldError:
    async with opened_stream(server.address) as agent:
        await agent.send(**{field.name: value for field, value in message.ListFields()})
        code = await agent.ended()
        assert agent.messages == []
        return told(code, agent.details, agent.trailing)


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.name)
async def test_a_wrong_hello_is_refused_and_changes_nothing(server: RunningServer, mistake: Mistake) -> None:
    message = pb.ConnectRequest(hello=hello(**mistake.changes))
    error = await refusal_of(server, message)
    assert error[:3] == ("INVALID_ARGUMENT", mistake.field, mistake.reason)
    assert mistake.limit in error.text
    assert await keyspace(server.settings.valkey_url) == {}


async def test_the_first_message_must_be_a_hello(server: RunningServer) -> None:
    error = await refusal_of(server, pb.ConnectRequest(heartbeat=pb.Heartbeat(sequence=1)))
    assert error[:3] == ("INVALID_ARGUMENT", "hello", "PROTOCOL_VIOLATION")
    assert "must be the first message" in error.text
    assert await keyspace(server.settings.valkey_url) == {}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("heartbeat", pb.Heartbeat(sequence=1, credit=5)),
        ("received", [pb.Received(command_id=UNKNOWN, lease_id="l")]),
        ("output", [pb.Output(command_id=UNKNOWN, lease_id="l", data=b"x")]),
        ("results", [pb.Result(command_id=UNKNOWN, lease_id="l")]),
        ("goodbye", pb.Goodbye()),
    ],
)
async def test_a_hello_travels_alone(server: RunningServer, part: str, value: Any) -> None:
    error = await refusal_of(server, pb.ConnectRequest(hello=hello(), **{part: value}))
    assert error[:3] == ("INVALID_ARGUMENT", part, "PROTOCOL_VIOLATION")
    assert error.text == f"hello must travel alone: {part} must wait for the welcome"
    assert await keyspace(server.settings.valkey_url) == {}


async def test_only_heartbeats_keep_other_instances_out(valkey_url: str) -> None:
    """What is live is decided by the last heartbeat that the store knows of, not by what else comes on the stream."""
    times = {"heartbeat_interval": 0.1, "start_within": 1.0, "ack_deadline": 1.5, "offline_after": 2.0}
    async with running_server(valkey_url, **times) as server, server.agent() as first:
        first.answers_probes = False
        first_command = await server.queue()
        await first.next_assignment(first_command)

        async def displaced() -> bool:
            # It talks all the time, so its stream is not silent.
            await first.send(received=[pb.Received(command_id=UNKNOWN, lease_id="l")])
            async with opened_stream(server.address) as second:
                await second.send(hello=hello(instance_id="instance-2"))
                await until(lambda: second.messages or second.code)
                return bool(second.messages)

        await eventually(displaced)
        assert told(await first.ended(), first.details, first.trailing).reason == "SUPERSEDED"


async def test_the_welcome_says_what_holds(server: RunningServer) -> None:
    async with server.agent(labels={"zone": "a"}, agent_version="test 1", types=["PING", "EXEC"]) as agent:
        welcome = agent.welcome
        assert welcome.epoch == 1
        assert welcome.heartbeat_interval.seconds == 10
        assert welcome.start_within.seconds == 15
        assert welcome.limits.max_result_bytes == 262_144
        assert welcome.limits.max_output_chunk_bytes == 65_536
        assert welcome.limits.max_unacknowledged_output_bytes == 262_144
        assert welcome.server_version.startswith("distributor ")
        info = await server.agent_info()
        assert info.status == command_service_pb2.AGENT_STATUS_ONLINE
        assert (info.epoch, info.capacity, info.agent_version) == (1, 5, "test 1")
        assert (list(info.types), dict(info.labels)) == (["PING", "EXEC"], {"zone": "a"})
        assert info.connect_time.seconds > 0
        assert not info.HasField("away_since")


async def test_the_newest_session_of_an_instance_wins(server: RunningServer) -> None:
    async with server.agent() as first, server.agent() as second:
        assert second.welcome.epoch == first.welcome.epoch + 1
        code = await first.ended()
        error = told(code, first.details, first.trailing)
        assert (error.code, error.reason) == ("ABORTED", "SUPERSEDED")
        command_id = await server.queue()
        await second.next_assignment(command_id)
        assert first.command_ids == []


async def test_another_live_instance_is_refused(server: RunningServer) -> None:
    async with server.agent() as first:
        message = pb.ConnectRequest(hello=hello(instance_id="instance-2"))
        session = b"agent:agent123:session"
        before = await keyspace(server.settings.valkey_url)
        error = await refusal_of(server, message)
        assert error[:3] == ("ALREADY_EXISTS", "hello.agent_id", "AGENT_ID_TAKEN")
        assert "another live instance is connected as agent 'agent123' from ipv4:127.0.0.1:" in error.text
        assert error.retry_after_seconds is not None
        assert 0 < error.retry_after_seconds <= 30.0
        after = await keyspace(server.settings.valkey_url)
        # Its session notes the rival.
        assert {key: after[key] for key in after if key != session} == {
            key: before[key] for key in before if key != session
        }
        await first.heartbeat()


async def test_another_instance_may_follow_one_that_left(server: RunningServer) -> None:
    async with server.agent() as first:
        await first.leave()
    async with server.agent(instance_id="instance-2") as second:
        assert second.welcome.epoch == 2


async def test_an_agent_that_left_is_away(server: RunningServer) -> None:
    async with server.agent() as agent:
        await agent.leave()
        assert agent.code is grpc.StatusCode.OK
        info = await server.agent_info()
        assert info.status == command_service_pb2.AGENT_STATUS_OFFLINE
        assert info.away_since.ToMilliseconds() >= info.connect_time.ToMilliseconds()


async def test_a_silent_agent_is_taken_for_gone(valkey_url: str) -> None:
    quick = {"heartbeat_interval": 0.1, "start_within": 0.2, "offline_after": 0.3}
    async with running_server(valkey_url, **quick) as server, server.agent() as agent:
        code = await agent.ended()
        assert told(code, agent.details, agent.trailing).reason == "SILENT"
        assert (await server.until_away()).HasField("away_since")


async def test_heartbeats_keep_an_agent(valkey_url: str) -> None:
    quick = {"heartbeat_interval": 0.1, "start_within": 0.2, "offline_after": 1.5}
    async with running_server(valkey_url, **quick) as server, server.agent() as agent:
        seen = (await server.agent_info()).last_seen_time.ToMilliseconds()

        async def beyond_the_limit() -> bool:
            await agent.heartbeat()
            info = await server.agent_info()
            # Under load a heartbeat may be late.
            assert info.status != command_service_pb2.AGENT_STATUS_OFFLINE
            return info.last_seen_time.ToMilliseconds() > seen + 2_000

        await eventually(beyond_the_limit)
        assert agent.code is None


async def mistaken(agent: WireAgent, **parts: Any) -> ToldError:
    await agent.send(**parts)
    code = await agent.ended()
    return told(code, agent.details, agent.trailing)


@pytest.mark.parametrize("sequence", [0, 2, 7])
async def test_heartbeats_out_of_sequence_end_the_stream(server: RunningServer, sequence: int) -> None:
    async with server.agent() as agent:
        error = await mistaken(agent, heartbeat=pb.Heartbeat(sequence=sequence, credit=1))
        assert error[:3] == ("INVALID_ARGUMENT", "heartbeat.sequence", "PROTOCOL_VIOLATION")
        assert f"must be 1, one more than the last, not {sequence}" in error.text


async def test_a_heartbeat_twice_ends_the_stream(server: RunningServer) -> None:
    async with server.agent() as agent:
        await agent.heartbeat()
        error = await mistaken(agent, heartbeat=pb.Heartbeat(sequence=1))
        assert (error.field, error.code) == ("heartbeat.sequence", "INVALID_ARGUMENT")


async def test_a_second_hello_ends_the_stream(server: RunningServer) -> None:
    async with server.agent() as agent:
        error = await mistaken(agent, hello=hello())
        assert error[:3] == ("INVALID_ARGUMENT", "hello", "PROTOCOL_VIOLATION")
        assert "in the first message only" in error.text


async def test_agents_that_attach_too_fast_are_given_a_time_to_return(valkey_url: str) -> None:
    slow = running_server(valkey_url, attach_rate=1.0)
    async with slow as server, server.agent(), opened_stream(server.address) as more:
        await more.ended()
        assert (more.code, more.details) == (
            grpc.StatusCode.UNAVAILABLE,
            "too many agents attach at once (attach_rate)",
        )
        assert 1.0 < (retry_after_of(details_of(more.trailing)) or 0.0) <= 1.5
