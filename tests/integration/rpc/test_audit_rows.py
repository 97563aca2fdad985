"""What callers and agents do stands in the audit trail, and what they send does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import grpc
import pytest
from structlog.testing import capture_logs

from distributor.identity.permissions import RPCS, Need
from distributor.model.audit_entry import AuditActor, AuditEvent, AuditOutcome, AuditRow
from distributor.rpc.interceptors.audit import AUDITED, Before, audited
from distributor.v1 import command_pb2, credentials_pb2, emergency_pb2
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.certificates import CertificateMaker
from tests.support.known_callers import ADMIN, AGENT, OPERATOR, VIEWER, credentials_of
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.waiting import eventually
from tests.support.wire_agent import wire_agent

GUESS = str(UUID(int=7 << 76))
SECRET = "tr0ub4dor-and-3"
OLAF = AuditActor("user", "olaf", address="127.0.0.1")
VERA = AuditActor("user", "vera", address="127.0.0.1")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.key"


@pytest.fixture
async def server(valkey_url: str, key_file: Path) -> AsyncIterator[RunningServer]:
    async with audited_server(valkey_url, key_file) as server:
        yield server


@pytest.fixture
async def trail(server: RunningServer, valkey_url: str, key_file: Path) -> AsyncIterator[StoredTrail]:
    async with stored_trail(valkey_url, key_file) as trail:
        yield trail


def about(row: AuditRow) -> tuple[str, AuditActor, str, tuple[str, ...], str]:
    entry = row.entry
    return entry.code, entry.actor, entry.agent_id, entry.command_ids, entry.reason


async def queued(server: RunningServer, **command: object) -> str:
    request = queue_request(**command)  # type: ignore[arg-type]
    response = await server.commands.QueueCommand(request, metadata=credentials_of(OPERATOR))
    return str(response.command.command_id)


async def test_a_server_starts_and_stops(server: RunningServer, trail: StoredTrail) -> None:
    started = await trail.until(AuditEvent.SERVER_STARTED)
    assert started.entry.details["version"]
    assert (await trail.rows())[0].entry.event is AuditEvent.CHAIN_STARTED


async def test_who_queued(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server)
    row = await trail.until(AuditEvent.COMMAND_QUEUED)
    assert about(row) == ("CMD01I", OLAF, "agent123", (command_id,), "")


async def test_who_queued_together(server: RunningServer, trail: StoredTrail) -> None:
    requests = [queue_request("a"), queue_request("b"), queue_request("a"), queue_request("a b")]
    response = await server.commands.QueueCommands(
        pb.QueueCommandsRequest(requests=requests), metadata=credentials_of(OPERATOR)
    )
    ids = [outcome.command_id for outcome in response.outcomes]
    await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.outcome is AuditOutcome.FAILED)
    rows = await trail.rows(AuditEvent.COMMAND_QUEUED)
    assert [about(row) for row in rows] == [
        ("CMD01I", OLAF, "a", (ids[0], ids[2]), ""),
        ("CMD01I", OLAF, "b", (ids[1],), ""),
        ("CMD01E", OLAF, "", (), "INVALID_AGENT_ID"),
    ]


async def test_who_cancelled(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server)
    await server.commands.CancelCommand(
        pb.CancelCommandRequest(command_id=command_id, reason=SECRET), metadata=credentials_of(OPERATOR)
    )
    row = await trail.until(AuditEvent.COMMAND_CANCELLED)
    assert about(row) == ("CMD02I", OLAF, "agent123", (command_id,), "")
    finished = await trail.until(AuditEvent.COMMAND_FINISHED)
    assert about(finished)[2:] == ("agent123", (command_id,), "cancelled")


async def test_who_retried(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server)
    await server.commands.CancelCommand(
        pb.CancelCommandRequest(command_id=command_id), metadata=credentials_of(OPERATOR)
    )
    response = await server.commands.RetryCommands(
        pb.RetryCommandsRequest(command_ids=[command_id]), metadata=credentials_of(OPERATOR)
    )
    row = await trail.until(AuditEvent.COMMAND_RETRIED)
    assert about(row) == ("CMD03I", OLAF, "", (response.commands[0].new_command_id,), "")


async def test_who_read_a_result_or_output(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server)
    await server.commands.GetCommand(pb.GetCommandRequest(command_id=command_id), metadata=credentials_of(VIEWER))
    row = await trail.until(AuditEvent.COMMAND_READ)
    assert about(row) == ("CMD04I", VERA, "agent123", (command_id,), "")
    call = server.commands.WatchCommand(
        pb.WatchCommandRequest(command_id=command_id), metadata=credentials_of(OPERATOR)
    )
    await anext(aiter(call))
    row = await trail.until(AuditEvent.COMMAND_READ, lambda row: row.entry.actor == OLAF)
    assert about(row) == ("CMD04I", OLAF, "agent123", (command_id,), "")
    call.cancel()


async def test_a_read_of_what_does_not_exist(server: RunningServer, trail: StoredTrail) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await server.commands.GetResult(
            pb.GetResultRequest(command_id=str(UUID(int=7 << 76))), metadata=credentials_of(VIEWER)
        )
    row = await trail.until(AuditEvent.COMMAND_READ)
    assert about(row) == ("CMD04E", VERA, "", (GUESS,), "UNKNOWN_COMMAND")


async def test_what_is_no_id_is_not_recorded(server: RunningServer, trail: StoredTrail) -> None:
    for call in (
        server.commands.GetResult(pb.GetResultRequest(command_id=SECRET), metadata=credentials_of(VIEWER)),
        server.commands.QueueCommand(queue_request(f"{SECRET} {SECRET}"), metadata=credentials_of(OPERATOR)),
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await call
    row = await trail.until(AuditEvent.COMMAND_READ)
    assert about(row) == ("CMD04E", VERA, "", (), "INVALID_COMMAND_ID")
    row = await trail.until(AuditEvent.COMMAND_QUEUED)
    assert about(row) == ("CMD01E", OLAF, "", (), "INVALID_AGENT_ID")


async def test_who_connected_is_written_once(server: RunningServer, trail: StoredTrail) -> None:
    for _ in range(3):
        await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=credentials_of(VIEWER))
    await queued(server)
    await trail.until(AuditEvent.COMMAND_QUEUED)
    rows = await trail.rows(AuditEvent.CALLER_CONNECTED)
    assert [about(row)[:2] for row in rows] == [("AUT01I", VERA), ("AUT01I", OLAF)]


@pytest.mark.parametrize(
    ("metadata", "expected"),
    [
        ((), ("AUT02W", AuditActor("unknown", address="127.0.0.1"), "", (), "CREDENTIALS_REQUIRED")),
        (
            (("authorization", f"Bearer {SECRET}"),),
            ("AUT02W", AuditActor("unknown", address="127.0.0.1"), "", (), "TOKEN_REFUSED"),
        ),
    ],
)
async def test_who_was_not_known(
    server: RunningServer, trail: StoredTrail, metadata: tuple[tuple[str, str], ...], expected: object
) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=metadata)
    row = await trail.until(AuditEvent.CALLER_REFUSED)
    assert about(row) == expected
    assert row.entry.details == {"method": "ListAgents"}


async def test_who_was_not_permitted(server: RunningServer, trail: StoredTrail) -> None:
    with pytest.raises(grpc.aio.AioRpcError):
        await server.commands.QueueCommand(queue_request(), metadata=credentials_of(VIEWER))
    row = await trail.until(AuditEvent.PERMISSION_DENIED)
    assert about(row) == ("AUT03W", VERA, "", (), "ROLE_MISSING")
    assert row.entry.details == {"method": "QueueCommand"}


async def test_limits_exceeded(valkey_url: str, key_file: Path) -> None:
    async with (
        audited_server(valkey_url, key_file, queue_limit=1) as server,
        stored_trail(valkey_url, key_file) as trail,
    ):
        await queued(server)
        with pytest.raises(grpc.aio.AioRpcError):
            await queued(server)
        row = await trail.until(AuditEvent.LIMIT_EXCEEDED)
        assert about(row) == ("LIM01W", OLAF, "", (), "QUEUE_FULL")


async def test_agents_and_their_commands(server: RunningServer, trail: StoredTrail) -> None:
    async with wire_agent(server.address, credentials=credentials_of(AGENT)) as agent:
        row = await trail.until(AuditEvent.AGENT_CONNECTED)
        assert about(row) == ("AGT01I", AuditActor("agent", "agent123", address="127.0.0.1"), "agent123", (), "")
        command_id = await queued(server)
        await agent.heartbeat()
        assignment = await agent.next_assignment(command_id)
        row = await trail.until(AuditEvent.COMMAND_SENT)
        assert about(row)[2:4] == ("agent123", (command_id,))
        await agent.finish(assignment)
        row = await trail.until(AuditEvent.COMMAND_FINISHED)
        assert about(row)[2:] == ("agent123", (command_id,), "completed")
        await agent.leave()
    row = await trail.until(AuditEvent.AGENT_DISCONNECTED)
    assert about(row)[2:] == ("agent123", (), "left")


async def test_why_the_server_disconnected_an_agent(server: RunningServer, trail: StoredTrail) -> None:
    credentials: Any = CredentialServiceStub(server.channel)
    async with wire_agent(server.address, credentials=credentials_of(AGENT)) as agent:
        await trail.until(AuditEvent.AGENT_CONNECTED)
        request = credentials_pb2.RevokeAgentRequest(agent_id="agent123")
        await credentials.RevokeAgent(request, metadata=credentials_of(ADMIN))
        assert await agent.ended() is grpc.StatusCode.UNAUTHENTICATED
    row = await trail.until(AuditEvent.AGENT_DISCONNECTED)
    assert about(row)[2:] == ("agent123", (), "revoked")


async def test_an_emergency_stop_is_written_before_it_is_acted_on(server: RunningServer, trail: StoredTrail) -> None:
    emergency: Any = EmergencyServiceStub(server.channel)
    scope = emergency_pb2.StopScope(selectors=["agent123"])
    response = await emergency.Stop(
        emergency_pb2.StopRequest(scope=scope, reason=SECRET), metadata=credentials_of(ADMIN)
    )
    attempt, *_ = await trail.rows(AuditEvent.EMERGENCY_STOPPED)
    assert attempt.entry.outcome is AuditOutcome.ATTEMPT, "there by the time of the answer, not a little later"
    assert attempt.entry.details == {"scope": "agent123"}
    assert attempt.entry.actor.subject == "ada"
    done = await trail.until(AuditEvent.EMERGENCY_STOPPED, lambda row: row.entry.outcome is AuditOutcome.SUCCESS)
    assert done.seq > attempt.seq
    request = emergency_pb2.ResumeRequest(stop_id=response.stop.stop_id)
    await emergency.Resume(request, metadata=credentials_of(ADMIN))
    (attempt, *_) = await trail.rows(AuditEvent.EMERGENCY_RESUMED)
    assert about(attempt)[0] == "EMG02I"


async def test_an_admin_action_that_cannot_be_recorded_does_not_happen_but_an_emergency_stop_does(
    server: RunningServer, trail: StoredTrail
) -> None:
    emergency: Any = EmergencyServiceStub(server.channel)
    stop = emergency_pb2.StopRequest(scope=emergency_pb2.StopScope(all=True))
    response = await emergency.Stop(stop, metadata=credentials_of(ADMIN))
    await trail.connection.call("HSET", "audit:head", "mac", "tampered")
    request = emergency_pb2.ResumeRequest(stop_id=response.stop.stop_id)
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await emergency.Resume(request, metadata=credentials_of(ADMIN))
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    stops = await emergency.ListStops(emergency_pb2.ListStopsRequest(), metadata=credentials_of(ADMIN))
    assert len(stops.stops) == 1
    stop = emergency_pb2.StopRequest(scope=emergency_pb2.StopScope(selectors=["agent123"]))
    with capture_logs() as logs:
        await emergency.Stop(stop, metadata=credentials_of(ADMIN))
    assert "acted before it could be recorded" in [line["event"] for line in logs]


async def test_a_flood_of_refusals_does_not_flood_the_trail(server: RunningServer, trail: StoredTrail) -> None:
    async def refused() -> None:
        with pytest.raises(grpc.aio.AioRpcError):
            await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=())

    for _ in range(15):
        await asyncio.gather(*(refused() for _ in range(100)))

    async def counted() -> bool:
        rows = await trail.rows(AuditEvent.CALLER_REFUSED)
        return sum(row.entry.count for row in rows) == 1_500

    await eventually(counted)
    assert len(await trail.rows(AuditEvent.CALLER_REFUSED)) < 100


async def test_changed_settings_are_named_without_their_values(valkey_url: str, key_file: Path) -> None:
    async with audited_server(valkey_url, key_file, queue_limit=7), stored_trail(valkey_url, key_file) as trail:
        assert await trail.rows(AuditEvent.SETTINGS_CHANGED) == [], "there is nothing to compare with"
    async with audited_server(valkey_url, key_file, queue_limit=8), stored_trail(valkey_url, key_file) as trail:
        (row,) = await trail.rows(AuditEvent.SETTINGS_CHANGED)
        assert row.entry.details["changed"] == "queue_limit"
        assert [one.entry.code for one in await trail.rows(AuditEvent.SERVER_STOPPED)] == ["CFG02I"]
        assert (await trail.verify()).ok


async def test_a_changed_policy_file_is_in_the_trail(valkey_url: str, key_file: Path, tmp_path: Path) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text("[types.A]\n")
    async with (
        audited_server(valkey_url, key_file, policy_file=policy),
        stored_trail(valkey_url, key_file) as trail,
    ):
        policy.write_text("[types.A]\n\n[types.B]\n")

        async def recorded() -> list[AuditRow]:
            return await trail.rows(AuditEvent.SETTINGS_CHANGED)

        (row,) = await eventually(recorded)
        assert row.entry.details["changed"] == "policy_file"


async def test_nothing_that_was_sent_is_in_the_trail(
    server: RunningServer, trail: StoredTrail, valkey_url: str, key_file: Path
) -> None:
    """Params, output, results, tokens, reasons, labels: nowhere in what the trail stores."""
    async with wire_agent(server.address, credentials=credentials_of(AGENT), labels={"note": SECRET}) as agent:
        command_id = await queued(server, params={"password": SECRET})
        await agent.heartbeat()
        assignment = await agent.next_assignment(command_id)
        await agent.start(assignment)
        await agent.print(assignment, SECRET.encode(), 0)
        await agent.finish(assignment, reason=command_pb2.Reason(code="so", message=SECRET))
        await trail.until(AuditEvent.COMMAND_FINISHED)
    with pytest.raises(grpc.aio.AioRpcError):
        await server.commands.ListAgents(pb.ListAgentsRequest(), metadata=(("authorization", f"Bearer {SECRET}"),))
    await trail.until(AuditEvent.CALLER_REFUSED)
    await trail.until(AuditEvent.AGENT_DISCONNECTED)
    stored = b""
    for key in await trail.connection.call("KEYS", "audit:*"):
        stored += await trail.connection.call("DUMP", key)
        kind = await trail.connection.call("TYPE", key)
        if kind == b"stream":
            stored += repr(await trail.connection.call("XRANGE", key, "-", "+")).encode()
    assert b"command.finished" in stored, "it was looked at"
    assert SECRET.encode() not in stored
    secret = key_file.read_text().split()[-1].encode()
    assert secret not in stored


async def test_without_authentication_there_is_no_trail_unless_it_is_on(valkey_url: str, key_file: Path) -> None:
    async with running_server(valkey_url, audit="auto") as server, stored_trail(valkey_url, key_file) as trail:
        await server.queue()
        assert (await trail.log.state()).head is None
    async with (
        audited_server(valkey_url, key_file, audit="on", authenticator=None) as server,
        stored_trail(valkey_url, key_file) as trail,
    ):
        await server.queue()
        row = await trail.until(AuditEvent.COMMAND_QUEUED)
        assert row.entry.actor == replace(AuditActor("unknown"), address="127.0.0.1")


async def test_enrolment_tokens_and_revocations(valkey_url: str, key_file: Path, tmp_path: Path) -> None:
    """With the id of a token, never the token."""
    maker = CertificateMaker()
    (tmp_path / "ca.pem").write_bytes(maker.pem)
    (tmp_path / "ca-key.pem").write_bytes(maker.key_pem)
    files = {"client_ca": tmp_path / "ca.pem", "ca_key": tmp_path / "ca-key.pem"}
    async with (
        audited_server(valkey_url, key_file, **files) as server,
        stored_trail(valkey_url, key_file) as trail,
    ):
        credentials: Any = CredentialServiceStub(server.channel)
        by_ada = {"metadata": credentials_of(ADMIN)}
        request = credentials_pb2.CreateEnrolmentTokenRequest(agents="agent123", count=1)
        made = await credentials.CreateEnrolmentToken(request, **by_ada)
        row = await trail.until(AuditEvent.TOKEN_MINTED, lambda row: row.entry.outcome is AuditOutcome.SUCCESS)
        assert row.entry.details == {"agents": "agent123", "kind": "enrolment", "token_id": made.token_id, "uses": 1}
        await credentials.RevokeAgent(credentials_pb2.RevokeAgentRequest(agent_id="agent123", reason=SECRET), **by_ada)
        row = await trail.until(AuditEvent.AGENT_REVOKED, lambda row: row.entry.outcome is AuditOutcome.SUCCESS)
        assert (row.entry.agent_id, row.entry.actor.subject) == ("agent123", "ada")
        await credentials.RestoreAgent(credentials_pb2.RestoreAgentRequest(agent_id="agent123"), **by_ada)
        assert (await trail.rows(AuditEvent.AGENT_RESTORED))[0].entry.outcome is AuditOutcome.ATTEMPT
        await credentials.RevokeToken(credentials_pb2.RevokeTokenRequest(token_id=made.token_id), **by_ada)
        row = await trail.until(AuditEvent.TOKEN_REVOKED)
        assert row.entry.details == {"token_id": made.token_id}
        revoke_service = credentials_pb2.RevokeServiceRequest(service="billing", reason=SECRET)
        await credentials.RevokeService(revoke_service, **by_ada)
        await credentials.RestoreService(credentials_pb2.RestoreServiceRequest(service="billing"), **by_ada)
        for event in (AuditEvent.SERVICE_REVOKED, AuditEvent.SERVICE_RESTORED):
            row = await trail.until(event, lambda row: row.entry.outcome is AuditOutcome.SUCCESS)
            assert (row.entry.details, row.entry.actor.subject) == ({"service": "billing"}, "ada")
        stored = repr(await trail.rows())
        assert made.token not in stored
        assert SECRET not in stored


def test_every_method_of_an_administrator_is_recorded() -> None:
    for method, need in RPCS.items():
        rule = audited(method)
        if need is Need.ADMIN:
            assert rule is not None, method
            reads = method.rpartition("/")[2].startswith(("Get", "List", "Watch"))
            assert reads or rule.before is not Before.NO, method
    assert set(AUDITED) <= set(RPCS), "each is a method that there is"
