"""Administrators read and verify the audit trail; agents are witnesses of its length."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from distributor.app.audit_key_file import AuditKeyFile, add_key
from distributor.identity.audit_checkpoint import parsed, signed
from distributor.model.audit_entry import AuditEvent
from distributor.v1 import audit_pb2 as pb
from distributor.v1.audit_pb2_grpc import AuditServiceStub
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.known_callers import ADMIN, AGENT, OPERATOR, VIEWER, credentials_of
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import RunningServer, queue_request, running_server
from tests.support.waiting import eventually
from tests.support.wire_agent import wire_agent

CREDENTIALS = credentials_of(ADMIN)


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.key"


@pytest.fixture
async def server(valkey_url: str, key_file: Path) -> AsyncIterator[RunningServer]:
    async with audited_server(valkey_url, key_file, audit_checkpoint_interval=0.05) as server:
        yield server


@pytest.fixture
async def trail(server: RunningServer, valkey_url: str, key_file: Path) -> AsyncIterator[StoredTrail]:
    async with stored_trail(valkey_url, key_file) as trail:
        yield trail


def audit(server: RunningServer) -> Any:
    return AuditServiceStub(server.channel)


async def queue(server: RunningServer, agent_id: str = "agent123") -> str:
    response = await server.commands.QueueCommand(queue_request(agent_id), metadata=credentials_of(OPERATOR))
    return str(response.command.command_id)


async def listed(server: RunningServer, **request: Any) -> list[pb.AuditEntry]:
    filter_fields = request.pop("filter", {})
    request = {"filter": pb.AuditFilter(**filter_fields), **request}
    response = await audit(server).ListAuditEntries(pb.ListAuditEntriesRequest(**request), metadata=CREDENTIALS)
    return list(response.entries)


async def verified(server: RunningServer, *checkpoints: str) -> pb.VerifyAuditResponse:
    request = pb.VerifyAuditRequest(checkpoints=checkpoints)
    response: pb.VerifyAuditResponse = await audit(server).VerifyAudit(request, metadata=CREDENTIALS)
    return response


def failed(response: pb.VerifyAuditResponse) -> list[str]:
    return [verdict.name for verdict in response.verdicts if not verdict.holds]


class TestReading:
    async def test_newest_first_in_pages(self, server: RunningServer, trail: StoredTrail) -> None:
        ids = [await queue(server, f"agent-{number}") for number in range(5)]
        await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.command_ids == (ids[-1],))
        found: list[str] = []
        token = ""
        while True:
            request = pb.ListAuditEntriesRequest(
                page_size=2, page_token=token, filter=pb.AuditFilter(types=["command.queued"])
            )
            response = await audit(server).ListAuditEntries(request, metadata=CREDENTIALS)
            assert len(response.entries) <= 2
            found += [entry.command_ids[0] for entry in response.entries]
            token = response.next_page_token
            if not token:
                break
        assert found == ids[::-1]

    @pytest.mark.parametrize(
        ("wanted", "agents"),
        [
            ({"agent_id": "agent-1"}, {"agent-1"}),
            ({"actor": "olaf"}, {"agent-0", "agent-1", "agent-2"}),
            ({"actor": "nobody"}, set()),
            ({"types": ["command."]}, {"agent-0", "agent-1", "agent-2"}),
            ({"types": ["agent."]}, set()),
            ({"outcomes": ["refused", "failed"], "types": ["command."]}, set()),
            ({"outcomes": ["success"], "types": ["command.queued"]}, {"agent-0", "agent-1", "agent-2"}),
        ],
    )
    async def test_filters(
        self, server: RunningServer, trail: StoredTrail, wanted: dict[str, Any], agents: set[str]
    ) -> None:
        for number in range(3):
            await queue(server, f"agent-{number}")
        await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.agent_id == "agent-2")
        entries = await listed(server, filter=wanted)
        assert {entry.agent_id for entry in entries if entry.agent_id} == agents

    async def test_by_command_and_time(self, server: RunningServer, trail: StoredTrail) -> None:
        first, second = await queue(server, "a"), await queue(server, "b")
        row = await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.command_ids == (second,))
        (entry,) = await listed(server, filter={"command_id": first})
        assert (entry.code, entry.actor_kind, entry.actor, entry.address) == ("CMD01I", "user", "olaf", "127.0.0.1")
        assert (entry.agent_id, entry.outcome, entry.count, entry.key_id) == ("a", "success", 1, "k1")
        assert not entry.tampered
        later = pb.AuditFilter(command_id=first)
        later.after.FromMilliseconds(row.at_ms + 60_000)
        response = await audit(server).ListAuditEntries(pb.ListAuditEntriesRequest(filter=later), metadata=CREDENTIALS)
        assert not response.entries
        earlier = pb.AuditFilter(command_id=first)
        earlier.before.FromMilliseconds(row.at_ms - 60_000)
        request = pb.ListAuditEntriesRequest(filter=earlier)
        response = await audit(server).ListAuditEntries(request, metadata=CREDENTIALS)
        assert not response.entries

    async def test_reading_is_recorded_before_it_is_answered(self, server: RunningServer) -> None:
        # The trail may have added a row of its own meanwhile.
        newest = next(entry for entry in await listed(server) if entry.type != "audit.anchored")
        assert (newest.type, newest.outcome, newest.actor) == ("audit.read", "attempt", "ada")
        assert dict(newest.details) == {"method": "ListAuditEntries"}

    @pytest.mark.parametrize("after", [-1, -(2**63), 2**63 - 1])
    async def test_an_export_after_no_possible_row_is_refused(self, server: RunningServer, after: int) -> None:
        call = audit(server).ExportAudit(pb.ExportAuditRequest(after_sequence=after), metadata=CREDENTIALS)
        assert (await error_of_stream(call)).reason == "SEQUENCE_OUT_OF_RANGE"

    @pytest.mark.parametrize("token", ["9" * 30, "²", "-1", "x"])
    async def test_a_token_of_no_list_is_refused(self, server: RunningServer, token: str) -> None:
        call = audit(server).ListAuditEntries(pb.ListAuditEntriesRequest(page_token=token), metadata=CREDENTIALS)
        assert (await error_of(call)).reason == "INVALID_PAGE_TOKEN"

    async def test_export_is_complete_and_oldest_first(self, server: RunningServer, trail: StoredTrail) -> None:
        for number in range(3):
            await queue(server, f"agent-{number}")
        await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.agent_id == "agent-2")
        call = audit(server).ExportAudit(pb.ExportAuditRequest(), metadata=CREDENTIALS)
        sequences = [entry.sequence async for response in call for entry in response.entries]
        assert sequences == [*range(1, len(sequences) + 1)]
        call = audit(server).ExportAudit(pb.ExportAuditRequest(after_sequence=3), metadata=CREDENTIALS)
        entries = [entry async for response in call for entry in response.entries]
        assert entries[0].sequence == 4

    async def test_following_goes_on_with_what_is_new(self, server: RunningServer) -> None:
        request = pb.ExportAuditRequest(filter=pb.AuditFilter(types=["command.queued"]), follow=True)
        call = audit(server).ExportAudit(request, metadata=CREDENTIALS)
        reading = asyncio.ensure_future(anext(aiter(call)))
        await queue(server, "late")
        async with asyncio.timeout(30):
            response = await reading
        assert [entry.agent_id for entry in response.entries] == ["late"]
        call.cancel()

    @pytest.mark.parametrize("caller", [VIEWER, OPERATOR, AGENT])
    async def test_only_admins_may(self, server: RunningServer, caller: Any) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await audit(server).ListAuditEntries(pb.ListAuditEntriesRequest(), metadata=credentials_of(caller))
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED

    @pytest.mark.parametrize(
        "request_",
        [
            pb.ListAuditEntriesRequest(page_size=1_001),
            pb.ListAuditEntriesRequest(page_token="x"),
            pb.ListAuditEntriesRequest(filter=pb.AuditFilter(types=["nonsense"])),
            pb.ListAuditEntriesRequest(filter=pb.AuditFilter(types=["command."] * 51)),
            pb.ListAuditEntriesRequest(filter=pb.AuditFilter(outcomes=["nonsense"])),
        ],
    )
    async def test_bad_requests(self, server: RunningServer, request_: pb.ListAuditEntriesRequest) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await audit(server).ListAuditEntries(request_, metadata=CREDENTIALS)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT

    async def test_a_server_without_a_trail_says_so(self, valkey_url: str) -> None:
        async with running_server(valkey_url) as server:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await audit(server).ListAuditEntries(pb.ListAuditEntriesRequest())
            assert caught.value.code() is grpc.StatusCode.FAILED_PRECONDITION

    async def test_a_changed_row_is_marked(self, server: RunningServer, trail: StoredTrail) -> None:
        await queue(server)
        row = await trail.until(AuditEvent.COMMAND_QUEUED)
        await change(trail, row.seq, b"olaf", b"vera")
        (entry,) = await listed(server, filter={"types": ["command.queued"]})
        assert (entry.actor, entry.tampered) == ("vera", True)
        response = await verified(server)
        assert failed(response) == ["integrity"]
        assert response.verdicts[0].findings[0].sequence == row.seq


async def change(trail: StoredTrail, seq: int, old: bytes, new: bytes) -> None:
    """Replace text in a stored row, as somebody can who writes to Valkey."""
    head = await trail.head()
    key = f"audit:segment:{head.origin.rpartition('/')[2]}:{head.segment.number}"
    rows = await trail.connection.call("XRANGE", key, "-", "+")
    await trail.connection.call("DEL", key)
    for entry_id, fields in rows:
        if entry_id == f"{seq}-0".encode():
            fields = [part.replace(old, new) for part in fields]
        await trail.connection.call("XADD", key, entry_id, *fields)


class TestVerifying:
    async def test_an_untouched_trail(self, server: RunningServer, trail: StoredTrail) -> None:
        await queue(server)
        await trail.until(AuditEvent.COMMAND_QUEUED)
        response = await verified(server)
        assert failed(response) == []
        assert [verdict.name for verdict in response.verdicts] == ["integrity", "completeness", "order", "clock"]
        assert response.rows == response.last_sequence > 0
        assert response.origin.startswith("distributor/audit/")

    async def test_while_others_write(self, server: RunningServer) -> None:
        async def write() -> None:
            for number in range(100):
                await queue(server, f"agent-{number}")

        writing = asyncio.ensure_future(write())
        while not writing.done():
            assert failed(await verified(server)) == []
        await writing

    async def test_with_a_checkpoint_from_outside(self, server: RunningServer, trail: StoredTrail) -> None:
        async def checkpoint() -> str:
            await queue(server)
            return str((await verified(server)).checkpoint)

        text = await eventually(checkpoint)
        response = await verified(server, text)
        assert (failed(response), response.witnesses) == ([], 1)
        known = parsed(text)
        assert known is not None
        ahead = signed(known.origin, 10_000, b"r" * 32, trail.keys.current)
        response = await verified(server, ahead.text)
        assert failed(response) == ["completeness"]
        assert "the end was cut off" in response.verdicts[1].findings[0].text

    async def test_a_text_that_is_no_checkpoint(self, server: RunningServer) -> None:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await verified(server, "nonsense")
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


class TestWitnesses:
    async def test_agents_are_given_each_new_checkpoint_once(self, server: RunningServer) -> None:
        async with wire_agent(server.address, credentials=credentials_of(AGENT)) as agent:

            async def given() -> list[str]:
                await queue(server, "other")
                await agent.heartbeat()
                return [one.heartbeat_reply.checkpoint for one in agent.messages if one.heartbeat_reply.checkpoint]

            (first, *_) = await eventually(given)
            assert parsed(first) is not None
            seen = await given()
            assert len(seen) == len(set(seen))

    async def test_an_agent_that_remembers_more_than_there_is_raises_an_alarm(
        self, server: RunningServer, trail: StoredTrail
    ) -> None:
        head = await trail.head()
        ahead = signed(head.origin, head.seq + 1_000, b"r" * 32, trail.keys.current).text
        async with wire_agent(server.address, credentials=credentials_of(AGENT), checkpoint=ahead):
            row = await trail.until(AuditEvent.WITNESS_CONTRADICTED)
        assert row.entry.code == "AUD08E"
        assert row.entry.details["witness"] == "agent agent123"
        assert row.entry.details["remembered"] == head.seq + 1_000
        registry = server.process.metrics.registry
        assert registry.get_sample_value("distributor_audit_alarms_total") == 1
        response = await verified(server)
        assert failed(response) == ["completeness"]
        assert "agent agent123 remembers" in response.verdicts[1].findings[0].text

    async def test_a_trail_put_back_to_an_earlier_state_is_found_by_its_agents(
        self, valkey_url: str, key_file: Path, trail: StoredTrail, server: RunningServer
    ) -> None:
        """The server itself was restarted and remembers nothing, and the chain is sound."""

        async def checkpoint() -> str:
            await queue(server)
            return str((await verified(server)).checkpoint)

        keys = await trail.connection.call("KEYS", "audit:*")
        before = {key: await trail.connection.call("DUMP", key) for key in keys}
        text = await eventually(checkpoint)
        await server.process.stop()
        for key in await trail.connection.call("KEYS", "audit:*"):
            await trail.connection.call("DEL", key)
        for key, dump in before.items():
            await trail.connection.call("RESTORE", key, 0, dump)
        async with audited_server(valkey_url, key_file, audit_checkpoint_interval=3_600.0) as again:
            assert failed(await verified(again)) == []
            async with wire_agent(again.address, credentials=credentials_of(AGENT), checkpoint=text):
                await trail.until(AuditEvent.WITNESS_CONTRADICTED)
            assert failed(await verified(again)) == ["completeness"]

    async def test_what_we_have_not_signed_is_ignored(self, server: RunningServer, trail: StoredTrail) -> None:
        head = await trail.head()
        forged = signed(head.origin, head.seq + 1_000, b"r" * 32, AuditKeyFile(await other_key(trail)).keys().current)
        for text in (forged.text, "nonsense", "x" * 5_000):
            async with wire_agent(server.address, credentials=credentials_of(AGENT), checkpoint=text):
                pass
        await trail.until(AuditEvent.AGENT_DISCONNECTED)
        assert failed(await verified(server)) == []
        assert await trail.rows(AuditEvent.WITNESS_CONTRADICTED) == []


async def other_key(trail: StoredTrail) -> Path:
    path = trail.key_file.with_name("other.key")
    add_key(path, "k1")
    return path
