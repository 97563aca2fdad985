"""`distributor audit` against a server."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from distributor.app.audit_key_file import AuditKeyFile
from distributor.cli.exit_codes import ExitCode
from distributor.identity.audit_checkpoint import signed
from distributor.model.audit_entry import AuditEvent, AuditRow
from tests.integration.rpc.test_audit_service import change, queue
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.known_callers import ADMIN, VIEWER
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS, eventually

PROGRAM = "from distributor.cli.distributor import main; main()"


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


async def audit(server: RunningServer, *arguments: str, caller: Any = ADMIN) -> tuple[int, str, str]:
    """Exit code, stdout and stderr of `distributor audit`."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, "audit", *arguments, f"--server={server.address}"),
        env={**os.environ, "DISTRIBUTOR_TOKEN": caller.subject},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(PATIENCE_SECONDS):
        out, err = await process.communicate()
    assert process.returncode is not None
    return process.returncode, out.decode(), err.decode()


async def queued(server: RunningServer, trail: StoredTrail, agent_id: str = "agent123") -> str:
    command_id = await queue(server, agent_id)
    await trail.until(AuditEvent.COMMAND_QUEUED, lambda row: row.entry.command_ids == (command_id,))
    return command_id


async def test_a_list_for_people_and_programs(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server, trail)
    code, out, _ = await audit(server, "list", "--since=1h", "--type=command.")
    assert code == ExitCode.SUCCESS
    assert "command.queued" in out
    assert "user:olaf" in out
    assert command_id in out
    code, out, _ = await audit(server, "list", "-o", "json", f"--command={command_id}")
    (entry,) = json.loads(out)
    assert (entry["code"], entry["actor"], entry["commandIds"]) == ("CMD01I", "olaf", [command_id])
    code, out, err = await audit(server, "list", "--actor=nobody")
    assert (code, out) == (ExitCode.SUCCESS, "")
    assert "no entries" in err


async def test_an_export_in_ocsf(server: RunningServer, trail: StoredTrail) -> None:
    command_id = await queued(server, trail)
    code, out, _ = await audit(server, "export")
    assert code == ExitCode.SUCCESS
    events = [json.loads(line) for line in out.splitlines()]
    assert [event["metadata"]["sequence"] for event in events] == [*range(1, len(events) + 1)]
    for event in events:
        assert (event["class_uid"], event["category_uid"]) == (6003, 6)
        assert event["type_uid"] == 600_300 + event["activity_id"]
        assert {"time", "severity_id", "status_id", "actor", "api", "src_endpoint", "metadata"} <= event.keys()
    (one,) = [event for event in events if event["api"]["operation"] == "command.queued"]
    assert (one["activity_id"], one["status"], one["status_code"]) == (1, "Success", "CMD01I")
    assert one["actor"] == {"user": {"name": "olaf", "type": "user"}}
    assert one["src_endpoint"] == {"ip": "127.0.0.1"}
    assert {"type": "command", "uid": command_id} in one["resources"]
    code, out, _ = await audit(server, "export", "--format=own", "--type=command.queued")
    assert [json.loads(line)["commandIds"] for line in out.splitlines()] == [[command_id]]


async def test_verify_says_so_in_its_exit_code(server: RunningServer, trail: StoredTrail, tmp_path: Path) -> None:
    await queued(server, trail)
    code, out, _ = await audit(server, "verify")
    assert code == ExitCode.SUCCESS, out
    assert [line.split() for line in out.splitlines()[:4]] == [
        ["integrity", "ok"],
        ["completeness", "ok"],
        ["order", "ok"],
        ["clock", "ok"],
    ]
    head = await trail.head()
    key = AuditKeyFile(trail.key_file).keys().current
    ahead = tmp_path / "checkpoint"
    texts = [signed(head.origin, head.seq + 500, b"r" * 32, key).text, signed("other", 1, b"r" * 32, key).text]
    ahead.write_text("\n".join(texts))
    code, out, _ = await audit(server, "verify", f"--checkpoint={ahead}")
    assert code == ExitCode.FAILED
    assert "the end was cut off" in out
    assert "remembers another chain" in out
    row = await trail.until(AuditEvent.COMMAND_QUEUED)
    await change(trail, row.seq, b"olaf", b"vera")
    code, out, _ = await audit(server, "verify", "-o", "json")
    assert code == ExitCode.FAILED
    document = json.loads(out)
    assert not document["verdicts"]["integrity"]["holds"]
    assert document["verdicts"]["completeness"]["holds"]
    code, out, _ = await audit(server, "list", "--type=command.queued")
    assert "TAMPERED" in out


@pytest.mark.parametrize("text", ["nonsense", "a\n1\nb\n\n— c d\nrest"])
async def test_a_file_that_holds_no_checkpoint(server: RunningServer, tmp_path: Path, text: str) -> None:
    file = tmp_path / "checkpoint"
    file.write_text(text)
    code, _, err = await audit(server, "verify", f"--checkpoint={file}")
    assert code == ExitCode.USAGE
    assert "does not hold checkpoints only" in err


async def test_it_is_for_admins(server: RunningServer) -> None:
    code, _, err = await audit(server, "list", caller=VIEWER)
    assert code == ExitCode.REFUSED
    assert "admin" in err


async def test_a_time_that_is_none(server: RunningServer) -> None:
    code, _, err = await audit(server, "list", "--since=yesterday")
    assert code == ExitCode.USAGE
    assert "--since must be a time" in err


async def test_a_key_file_is_made_and_a_key_added(server: RunningServer, trail: StoredTrail, tmp_path: Path) -> None:
    for key_id in ("k2", "k3"):
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", PROGRAM, "audit", "new-key", str(trail.key_file)),
            f"--key-id={key_id}",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert process.returncode == 0
        assert key_id in out.decode()
    assert trail.key_file.stat().st_mode & 0o777 == 0o600

    async def rotated() -> AuditRow | None:
        """Servers look at the file every few seconds, and use the key for the next row."""
        await queue(server)
        return next(iter(await trail.rows(AuditEvent.KEY_ROTATED)), None)

    row = await eventually(rotated)
    assert row.key_id == "k3"
    assert (await trail.verify()).ok
