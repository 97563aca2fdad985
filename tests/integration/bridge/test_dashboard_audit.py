"""What dashboards do at a bridge stands in the audit trail, with the user and where the user is."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from distributor.model.audit_entry import AuditEvent
from tests.support.audited_bridge import ALICE, AT, AuditedBridge, audited_bridge


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
