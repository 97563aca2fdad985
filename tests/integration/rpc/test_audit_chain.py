"""Rows that no call of its own kind causes: those that the chain adds by itself, and other calls of administrators."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from distributor.identity.audit_head import Manifest
from distributor.identity.permissions import RPCS, Need
from distributor.model.audit_entry import SERVER, AuditActor, AuditEvent
from distributor.rpc.interceptors.audit import AUDITED
from distributor.v1 import command_service_pb2 as pb
from tests.support.audited_server import StoredTrail, audited_server, stored_trail
from tests.support.known_callers import ADMIN, OPERATOR, credentials_of
from tests.support.running_server import RunningServer, queue_request

AGENTS: Final = 400
"""Each has a row of its own; together they are more than the smallest segment."""
SMALL_SEGMENTS: Final = {"audit_max_bytes": 1_048_576}
OTHERS: Final = sorted(method for method, need in RPCS.items() if need is Need.ADMIN and method not in AUDITED)
"""Methods for administrators that have no kind of their own."""


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "audit.key"


@pytest.fixture
async def trail(valkey_url: str, key_file: Path) -> AsyncIterator[StoredTrail]:
    async with stored_trail(valkey_url, key_file) as trail:
        yield trail


async def fill_segment(server: RunningServer) -> None:
    requests = [queue_request(f"agent-{number}") for number in range(AGENTS)]
    await server.commands.QueueCommands(pb.QueueCommandsRequest(requests=requests), metadata=credentials_of(OPERATOR))


@pytest.mark.parametrize("method", OTHERS, ids=lambda method: method.rpartition("/")[2])
async def test_other_calls_of_an_administrator(
    valkey_url: str, key_file: Path, trail: StoredTrail, method: str
) -> None:
    async with audited_server(valkey_url, key_file) as server:
        # Whether it succeeds or fails.
        with contextlib.suppress(grpc.aio.AioRpcError):
            stub: Any = server.channel.unary_stream(method)
            async for _ in stub(b"", metadata=credentials_of(ADMIN), timeout=30):
                pass
        row = await trail.until(AuditEvent.ADMIN_CALLED)
    assert row.entry.code.startswith("ADM01")
    assert row.entry.actor == AuditActor("user", "ada", address="127.0.0.1")
    assert row.entry.details["method"] == method.rpartition("/")[2]


def test_there_are_such_calls() -> None:
    assert OTHERS


async def test_a_full_segment_is_closed_and_the_next_names_its_manifest(
    valkey_url: str, key_file: Path, trail: StoredTrail
) -> None:
    async with audited_server(valkey_url, key_file, **SMALL_SEGMENTS) as server:
        await fill_segment(server)
        await fill_segment(server)
        row = await trail.until(AuditEvent.SEGMENT_OPENED)
    manifest = (await trail.log.manifests((await trail.head()).origin))[1]
    assert (await trail.verify()).ok
    assert (row.entry.code, row.entry.actor, row.segment) == ("AUD03I", SERVER, 2)
    assert row.entry.details == {"segment": 2, "manifest": manifest.mac}
    closed = Manifest.read(manifest, trail.keys)
    assert closed.last_seq == row.seq - 1, "the first row of a segment"


async def test_a_checkpoint_is_recorded_in_the_next_row(valkey_url: str, key_file: Path, trail: StoredTrail) -> None:
    async with audited_server(valkey_url, key_file, audit_checkpoint_interval=0.05) as server:
        await fill_segment(server)
        row = await trail.until(AuditEvent.ANCHORED)
    assert (row.entry.code, row.entry.actor) == ("AUD05I", SERVER)
    assert row.entry.details["size"] == row.seq - 1, "all rows before it"
    assert row.entry.details["root"]


async def test_what_is_pruned_is_recorded_as_such(valkey_url: str, key_file: Path, trail: StoredTrail) -> None:
    async with audited_server(valkey_url, key_file, **SMALL_SEGMENTS) as server:
        await fill_segment(server)
        await fill_segment(server)
        opened = await trail.until(AuditEvent.SEGMENT_OPENED)
    async with audited_server(valkey_url, key_file, audit_retention=0.001, **SMALL_SEGMENTS):
        row = await trail.until(AuditEvent.PRUNED)
    assert (await trail.verify()).ok
    assert (row.entry.code, row.entry.actor) == ("AUD04I", SERVER)
    assert row.entry.details == {"through_segment": 1, "through_seq": opened.seq - 1}
