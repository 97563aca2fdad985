"""Administrators read the audit trail through a bridge, and the server records it under their name."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.model.audit_entry import AuditEvent
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.running_bridge import RunningBridge, running_bridge
from tests.support.running_server import RunningServer, running_server


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.key"


@pytest.fixture
async def audited(valkey_url: str, key_file: Path) -> AsyncIterator[RunningServer]:
    async with audited_server(valkey_url, key_file, audit="on", authenticator=None) as server:
        yield server


@pytest.fixture
async def trail(audited: RunningServer, valkey_url: str, key_file: Path) -> AsyncIterator[StoredTrail]:
    async with stored_trail(valkey_url, key_file) as trail:
        yield trail


@pytest.fixture
async def bridge(audited: RunningServer) -> AsyncIterator[RunningBridge]:
    async with running_bridge(audited) as bridge:
        yield bridge


async def test_an_administrator_reads_it(audited: RunningServer, trail: StoredTrail, bridge: RunningBridge) -> None:
    command_id = await audited.queue("press-7")
    await trail.until(AuditEvent.COMMAND_QUEUED)
    answer = await bridge.get("/api/audit?type=command.queued&agent=press-7", bridge.token("admin"))
    assert answer.status == 200, answer.body
    (entry,) = answer.json()["entries"]
    assert (entry["code"], entry["agentId"], entry["commandIds"]) == ("CMD01I", "press-7", [command_id])
    assert answer.json()["nextPageToken"] == ""
    assert await trail.rows(AuditEvent.AUDIT_READ), "reading is recorded"


async def test_pages(trail: StoredTrail, bridge: RunningBridge) -> None:
    first = (await bridge.get("/api/audit?pageSize=1", bridge.token("admin"))).json()
    assert len(first["entries"]) == 1
    path = f"/api/audit?pageSize=1&pageToken={first['nextPageToken']}"
    second = (await bridge.get(path, bridge.token("admin"))).json()
    assert second["entries"][0]["sequence"] == first["entries"][0]["sequence"] - 1


@pytest.mark.parametrize("role", ["viewer", "operator"])
async def test_others_do_not(trail: StoredTrail, bridge: RunningBridge, role: str) -> None:
    answer = await bridge.get("/api/audit", bridge.token(role))
    assert answer.status == 403


async def test_a_server_without_a_trail_says_so(valkey_url: str) -> None:
    async with running_server(valkey_url) as server, running_bridge(server) as bridge:
        answer = await bridge.get("/api/audit", bridge.token("admin"))
    assert (answer.status, answer.json()["error"]["reason"]) == (409, "AUDIT_OFF")


@pytest.mark.parametrize("query", ["nonsense=1", "type=nonsense", "outcome=nonsense", "since=x", "pageSize=0"])
async def test_bad_queries(trail: StoredTrail, bridge: RunningBridge, query: str) -> None:
    answer = await bridge.get(f"/api/audit?{query}", bridge.token("admin"))
    assert answer.status == 400, answer.body
