"""What dashboards do at a bridge stands in the audit trail, with the user and where the user is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from distributor.model.audit_entry import AuditEvent, AuditRow
from distributor.v1 import audit_pb2
from distributor.v1.audit_pb2_grpc import AuditServiceStub
from tests.support.audited_bridge import ALICE, AT, STRANGER, AuditedBridge, audited_bridge
from tests.support.dashboard_client import DashboardClient
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer


@pytest.fixture
async def audited(valkey_url: str, tmp_path: Path) -> AsyncIterator[AuditedBridge]:
    async with audited_bridge(valkey_url, tmp_path) as audited:
        yield audited


async def test_a_command_comes_from_the_address_of_its_user(audited: AuditedBridge) -> None:
    async with audited.agent(), audited.dashboard() as dashboard:
        command_id = await dashboard.request("agent123", commandType="PRINT")
        status = await dashboard.first("command:status", commandId=command_id)
    assert status["command"]["requestedBy"] == {
        "kind": "service",
        "subject": "bridge",
        "onBehalfOf": "alice",
        "address": AT,
    }
    row = await audited.trail.until(AuditEvent.COMMAND_QUEUED)
    assert (row.entry.actor, row.entry.details) == (ALICE, {"via": "127.0.0.1"})
    row = await audited.trail.until(AuditEvent.CALLER_CONNECTED, lambda row: row.entry.actor == ALICE)
    assert row.entry.details["via"] == "127.0.0.1"


async def ended(audited: AuditedBridge, dashboard: DashboardClient) -> str:
    """A command of that dashboard with output and a result, both of which it has read."""
    async with audited.agent() as agent:
        command_id = await dashboard.request("agent123", commandType="PRINT")
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        await agent.print(assignment, b"one", 0)
        await dashboard.first("terminal:output", commandId=command_id)
        await agent.print(assignment, b"two", 3)
        await agent.finish(assignment)
        await dashboard.first("command:result", commandId=command_id)
    return command_id


def reads(what: str, user: str = "alice") -> Callable[[AuditRow], bool]:
    return lambda row: row.entry.details.get("read") == what and row.entry.actor.on_behalf_of == user


async def test_a_dashboard_connects_reads_and_leaves(audited: AuditedBridge) -> None:
    async with audited.dashboard() as dashboard:
        command_id = await ended(audited, dashboard)
    row = await audited.trail.until(AuditEvent.DASHBOARD_CONNECTED)
    assert (row.entry.code, row.entry.actor) == ("AUT04I", ALICE)
    assert row.entry.details.keys() == {"via", "method", "token_id"}
    row = await audited.trail.until(AuditEvent.DASHBOARD_DISCONNECTED)
    assert (row.entry.code, row.entry.actor, row.entry.reason) == ("AUT05I", ALICE, "")
    for what in ("result", "output"):
        row = await audited.trail.until(AuditEvent.COMMAND_READ, reads(what))
        assert (row.entry.code, row.entry.actor, row.entry.command_ids) == ("CMD04I", ALICE, (command_id,))
        assert (row.entry.count, row.entry.details["via"]) == (1, "127.0.0.1"), "once for a subscription"


async def test_what_is_read_over_the_api(audited: AuditedBridge) -> None:
    async with audited.dashboard() as dashboard:
        command_id = await ended(audited, dashboard)
    bob = audited.bridge.token("viewer", subject="bob")
    assert await audited.get(f"/api/commands/{command_id}", bob) == 200
    assert await audited.get(f"/api/commands/{command_id}/output", bob) == 200
    for what in ("result", "output"):
        row = await audited.trail.until(AuditEvent.COMMAND_READ, reads(what, "bob"))
        assert (row.entry.actor.address, row.entry.command_ids) == (AT, (command_id,))


async def test_refusals_at_the_door_of_the_bridge(audited: AuditedBridge) -> None:
    trail, mine = audited.trail, "a token of nobody"
    async with audited.bridge.stranger(local_addr=(AT, 0)) as dashboard:
        await dashboard.say("dashboard:connect", token=mine)
        await dashboard.until_closed()
    row = await trail.until(AuditEvent.CALLER_REFUSED)
    assert (row.entry.code, row.entry.actor, row.entry.reason) == ("AUT02W", STRANGER, "TOKEN_REFUSED")
    assert row.entry.details == {"via": "127.0.0.1", "method": "dashboard:connect"}
    assert await audited.get("/api/agents") == 401
    row = await trail.until(AuditEvent.CALLER_REFUSED, lambda row: row.entry.reason == "CREDENTIALS_REQUIRED")
    assert (row.entry.actor, row.entry.details["method"]) == (STRANGER, "/api/agents")
    assert await audited.get("/api/audit", audited.bridge.token("viewer")) == 403
    row = await trail.until(AuditEvent.PERMISSION_DENIED)
    assert (row.entry.actor, row.entry.reason, row.entry.details["method"]) == (ALICE, "ROLE_MISSING", "/api/audit")
    async with audited.dashboard("viewer") as dashboard:
        await dashboard.refused("emergency:resume", stopId="x")
    row = await trail.until(AuditEvent.PERMISSION_DENIED, lambda row: row.entry.details["method"] == "emergency:resume")
    assert row.entry.actor == ALICE
    assert mine not in repr(await trail.rows())


@pytest.mark.parametrize(
    ("path", "method", "status", "reason"),
    [
        ("/metrics", "/metrics", 401, "CREDENTIALS_REQUIRED"),
        ("/api/nothing", "/api/{rest:path}", 401, "CREDENTIALS_REQUIRED"),
        ("/api/agents?access_token=secret-of-mine", "/api/agents", 400, "TOKEN_IN_ADDRESS"),
        ("/?token=secret-of-mine", "", 400, "TOKEN_IN_ADDRESS"),
    ],
)
async def test_refusals_at_each_http_door(
    audited: AuditedBridge, path: str, method: str, status: int, reason: str
) -> None:
    assert await audited.get(path) == status
    row = await audited.trail.until(AuditEvent.CALLER_REFUSED)
    assert (row.entry.actor, row.entry.reason, row.entry.details.get("method", "")) == (STRANGER, reason, method)
    assert "secret-of-mine" not in repr(await audited.trail.rows())


async def test_a_narrowed_token_at_the_metrics_of_a_bridge(audited: AuditedBridge) -> None:
    assert await audited.get("/metrics", audited.bridge.token("viewer", agents=["web-*"])) == 403
    row = await audited.trail.until(AuditEvent.PERMISSION_DENIED)
    assert (row.entry.actor, row.entry.reason, row.entry.details["method"]) == (ALICE, "NOT_GRANTED", "/metrics")


async def test_refusals_of_the_session(audited: AuditedBridge) -> None:
    other = {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"}
    answer = await audited.bridge.call("POST", "/session", other, {"token": audited.bridge.token()})
    assert answer.status == 403
    row = await audited.trail.until(AuditEvent.PERMISSION_DENIED)
    assert (row.entry.reason, row.entry.details["method"]) == ("FOREIGN_ORIGIN", "/session")
    own = {"Origin": f"http://{audited.bridge.address}"}
    assert (await audited.bridge.call("POST", "/session", own, {"token": "a token of nobody"})).status == 401
    row = await audited.trail.until(AuditEvent.CALLER_REFUSED)
    assert (row.entry.reason, row.entry.details["method"]) == ("TOKEN_REFUSED", "/session")


async def test_a_session_that_no_longer_counts(audited: AuditedBridge) -> None:
    own = {"Origin": f"http://{audited.bridge.address}"}
    signed_in = await audited.bridge.call("POST", "/session", own, {"token": audited.bridge.token()})
    name = (signed_in.headers["Set-Cookie"] or "").partition("=")[0]
    answer = await audited.bridge.call("GET", "/session", {"Cookie": f"{name}=forged", "Sec-Fetch-Site": "same-origin"})
    assert (answer.status, answer.json()["userId"]) == (200, None)
    row = await audited.trail.until(AuditEvent.CALLER_REFUSED)
    assert (row.entry.reason, row.entry.details["method"]) == ("TOKEN_REFUSED", "/session")


async def test_a_refusal_by_the_server_is_recorded_once(audited: AuditedBridge) -> None:
    async with audited.dashboard("operator") as dashboard:
        error = await dashboard.refused("command:request", agentId="nobody", commandType="PRINT")
        assert error["code"] != "PERMISSION_DENIED"
    await audited.trail.until(AuditEvent.DASHBOARD_DISCONNECTED)
    assert await audited.trail.rows(AuditEvent.PERMISSION_DENIED) == []


async def test_a_bridge_that_stops_reports_what_waits(valkey_url: str, tmp_path: Path) -> None:
    async with audited_bridge(valkey_url, tmp_path) as audited:
        own = audited.bridge.settings.server_token
        async with running_bridge(audited.server, server_token=own) as other, other.dashboard() as dashboard:
            await dashboard.settled()
        await audited.trail.until(AuditEvent.DASHBOARD_DISCONNECTED)


async def test_what_was_lost_while_the_server_was_away_is_a_gap(audited: AuditedBridge) -> None:
    notes = audited.bridge.process.parts.notes
    notes._lost = 7
    async with audited.dashboard():
        pass
    row = await audited.trail.until(AuditEvent.GAP)
    assert (row.entry.code, row.entry.count, row.entry.actor.subject) == ("AUD07E", 7, "bridge")


async def test_without_a_credential_a_bridge_reports_nothing(server: RunningServer, bridge: RunningBridge) -> None:
    async with bridge.dashboard() as dashboard:
        await dashboard.settled()
        assert not bridge.process.parts.notes._waiting


async def test_only_delegates_report(audited: AuditedBridge) -> None:
    stub: Any = AuditServiceStub(audited.server.channel)
    request = audit_pb2.RecordDashboardEventsRequest(lost=1)
    own = f"Bearer {audited.bridge.settings.server_token.get_secret_value()}"
    of_alice = ("distributor-on-behalf-of", audited.bridge.token("admin"))
    for metadata in (
        [("authorization", f"Bearer {audited.bridge.token('admin')}")],
        [("authorization", own), of_alice],
    ):
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.RecordDashboardEvents(request, metadata=metadata)
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
    await stub.RecordDashboardEvents(request, metadata=[("authorization", own)])
