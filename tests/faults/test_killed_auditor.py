"""A server that is killed while it records leaves a trail that holds, and lacks at most its last moment."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import grpc

from distributor.app.audit_key_file import add_key
from distributor.model.audit_entry import AuditEvent
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from tests.support.audited_server import stored_trail
from tests.support.free_port import free_port
from tests.support.launched_server import launched_server
from tests.support.running_server import queue_request
from tests.support.waiting import eventually


async def test_kill_9_leaves_a_trail_that_holds(valkey_url: str, tmp_path: Path) -> None:
    key_file = tmp_path / "audit.key"
    add_key(key_file, "k1")
    with free_port() as port:
        address = f"127.0.0.1:{port}"
        environment = {
            "DISTRIBUTOR_LISTEN": address,
            "DISTRIBUTOR_HTTP_LISTEN": "127.0.0.1:0",
            "DISTRIBUTOR_VALKEY_URL": valkey_url,
            "DISTRIBUTOR_AUDIT": "on",
            "DISTRIBUTOR_AUDIT_KEY_FILE": str(key_file),
        }
        for run in (1, 2):
            async with (
                launched_server("serve", **environment) as server,
                stored_trail(valkey_url, key_file) as trail,
                grpc.aio.insecure_channel(address) as channel,
            ):
                stub = CommandServiceStub(channel)
                queued = [
                    (await stub.QueueCommand(queue_request(f"agent-{n}"), wait_for_ready=True)).command.command_id
                    for n in range(40)
                ]

                async def recorded(queued: list[str] = queued, trail: object = trail) -> bool:
                    rows = await trail.rows(AuditEvent.COMMAND_QUEUED)  # type: ignore[attr-defined]
                    return queued[0] in {one for row in rows for one in row.entry.command_ids}

                await eventually(recorded)
                working = asyncio.ensure_future(stub.QueueCommand(queue_request("agent-late")))
                server.process.send_signal(signal.SIGKILL)
                await server.ended()
                await asyncio.wait([working])
                working.exception()
                verdicts = await trail.verify()
                assert verdicts.ok, verdicts.findings
                assert len(await trail.rows(AuditEvent.SERVER_STARTED)) == run
