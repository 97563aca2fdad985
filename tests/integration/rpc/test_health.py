"""Who is told when the server cannot serve, and that it serves again by itself."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from valkey.asyncio import Valkey

from distributor.rpc.server import SERVICES
from distributor.store.embedded import EmbeddedValkey
from tests.support.received_errors import error_of, error_of_stream
from tests.support.running_server import COMPLETED, RunningServer, queue_request, running_server
from tests.support.waiting import PATIENCE_SECONDS, eventually, until

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
# Its stubs are older than List.
MESSAGES: Any = health_pb2
LIST = MESSAGES.HealthListRequest()
Turn = Callable[[Valkey, Path], Awaitable[None]]


async def health(server: RunningServer, service: str = "") -> int:
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    response = await stub.Check(health_pb2.HealthCheckRequest(service=service))
    return int(response.status)


async def until_health(server: RunningServer, wanted: int) -> None:
    """Wait for the health to change: it is watched."""
    stub: Any = health_pb2_grpc.HealthStub(server.channel)
    async with asyncio.timeout(PATIENCE_SECONDS):
        async for response in stub.Watch(health_pb2.HealthCheckRequest()):
            if response.status == wanted:
                return


Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def readyz(server: RunningServer, connection: Connection | None = None) -> tuple[int, dict[str, Any]]:
    """Status and body of /readyz, over a new connection or this one."""
    reader, writer = connection or await asyncio.open_connection("127.0.0.1", server.process.http_port)
    writer.write(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
    answer = await reader.read()
    writer.close()
    await writer.wait_closed()
    head, _, body = answer.partition(b"\r\n\r\n")
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("service", ["", *SERVICES])
async def test_serving(server: RunningServer, service: str) -> None:
    assert await health(server, service) == SERVING
    assert await readyz(server) == (200, {"ready": True, "checks": {"valkey": "ok", "draining": "ok"}})


async def test_an_unknown_service(server: RunningServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="NOT_FOUND"):
        await health(server, "distributor.v1.NoSuchService")


async def test_not_serving_while_valkey_is_away_and_serving_again_afterwards(tmp_path: Path) -> None:
    valkey = EmbeddedValkey(tmp_path)
    await valkey.start()
    try:
        async with running_server(valkey.url) as server, server.agent() as agent:
            running = await agent.next_assignment(await server.queue())
            waiting = await server.queue("away")
            await agent.start(running)
            await server.until_state(running.command.command_id, lambda state: state.receipts.HasField("start_time"))
            await valkey.stop()
            await until_health(server, NOT_SERVING)
            status, body = await readyz(server)
            assert (status, body["ready"]) == (503, False)
            assert body["checks"]["valkey"].startswith("Valkey is away")
            error = await error_of(server.commands.QueueCommand(queue_request()))
            assert (error.code, error.reason, error.retry_after_seconds) == ("UNAVAILABLE", "STORE_UNAVAILABLE", 1.0)

            await valkey.start()
            await until_health(server, SERVING)
            assert (await readyz(server))[0] == 200
            await agent.heartbeat()
            await agent.finish(running)
            following = await agent.next_assignment(await server.queue())
            await agent.finish(following)
            for assignment in (running, following):
                assert (await server.result(assignment.command.command_id)).status == COMPLETED
            async with server.agent("away") as other:
                await other.next_assignment(waiting)
    finally:
        await valkey.stop()


async def lacks_replicas(valkey: Valkey, _: Path) -> None:
    await valkey.config_set("min-replicas-to-write", 1)


async def cannot_save(valkey: Valkey, data_dir: Path) -> None:
    """Have a snapshot fail, as on a full disk: a folder is in the place of its file."""
    (data_dir / "dump.rdb").mkdir()
    await valkey.config_set("save", "3600 1000000")
    await valkey.bgsave()

    async def failed() -> bool:
        return bool((await valkey.info("persistence"))["rdb_last_bgsave_status"] == "err")

    await eventually(failed)


async def replicas_are_back(valkey: Valkey, _: Path) -> None:
    await valkey.config_set("min-replicas-to-write", 0)


async def can_save_again(valkey: Valkey, data_dir: Path) -> None:
    (data_dir / "dump.rdb").rmdir()
    await valkey.config_set("save", "")


@pytest.mark.parametrize(
    ("fault", "mend", "reply"),
    [(lacks_replicas, replicas_are_back, "NOREPLICAS"), (cannot_save, can_save_again, "MISCONF")],
)
async def test_not_serving_while_valkey_answers_but_takes_no_changes(
    tmp_path: Path, fault: Turn, mend: Turn, reply: str
) -> None:
    async with (
        EmbeddedValkey(tmp_path) as valkey,
        Valkey.from_url(valkey.url) as client,
        running_server(valkey.url) as server,
    ):
        await fault(client, tmp_path)
        await until_health(server, NOT_SERVING)
        assert reply in (await readyz(server))[1]["checks"]["valkey"]
        error = await error_of(server.commands.QueueCommand(queue_request()))
        assert (error.code, error.reason) == ("UNAVAILABLE", "STORE_UNAVAILABLE")
        await mend(client, tmp_path)
        await until_health(server, SERVING)
        await server.queue()


async def test_not_serving_while_draining(valkey_url: str) -> None:
    """Connections that are open hear it; new ones are refused."""
    async with running_server(valkey_url, drain_timeout=2 * PATIENCE_SECONDS) as server, server.agent() as agent:
        stub: Any = health_pb2_grpc.HealthStub(server.channel)
        watch = stub.Watch(health_pb2.HealthCheckRequest(), timeout=PATIENCE_SECONDS)
        assert (await watch.read()).status == SERVING
        probe = await asyncio.open_connection("127.0.0.1", server.process.http_port)
        await until(lambda: server.process.http_connections)
        stopping = asyncio.create_task(server.process.stop())
        assert (await watch.read()).status == NOT_SERVING
        await agent.until(lambda: agent.drained)
        status, body = await readyz(server, probe)
        assert (status, body["checks"]["draining"]) == (503, "the server is stopping")
        with pytest.raises(ConnectionRefusedError):
            await readyz(server)
        await agent.leave()
        await stopping


async def listed_services(server: RunningServer) -> list[str]:
    # Its stubs know blocking channels only.
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(server.channel)  # type: ignore[arg-type]
    call = stub.ServerReflectionInfo(iter([reflection_pb2.ServerReflectionRequest(list_services="*")]))
    response = await call.read()
    return [service.name for service in response.list_services_response.service]


async def test_reflection_only_where_it_is_set(valkey_url: str, server: RunningServer) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match="UNIMPLEMENTED"):
        await listed_services(server)
    async with running_server(valkey_url, reflection=True) as reflecting:
        assert set(SERVICES) <= set(await listed_services(reflecting))


async def test_metrics_tell_of_commands_and_calls(server: RunningServer) -> None:
    async with server.agent() as agent:
        await agent.finish(await agent.next_assignment(await server.queue()))
        await error_of(server.commands.QueueCommand(queue_request("")))

        def value(name: str, **labels: str) -> float:
            return server.process.metrics.registry.get_sample_value(name, labels) or 0.0

        # Events and the ends of handlers may come after the answers.
        await until(lambda: value("distributor_commands_finished_total", status="completed") > 0)
        await until(lambda: value("distributor_rpc_seconds_count", method="QueueCommand", code="OK") > 0)
        await until(lambda: value("distributor_rpc_seconds_count", method="QueueCommand", code="INVALID_ARGUMENT") > 0)
        assert value("distributor_agents_connected") == 1
        assert value("distributor_stage_seconds_count", stage="started_to_finished") >= 0


async def test_all_services_are_listed(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        # Its stubs do not say that it has methods.
        stub: Any = health_pb2_grpc.HealthStub(server.channel)
        answer = await stub.List(LIST)
        assert set(answer.statuses) == {"", *SERVICES}
        assert {one.status for one in answer.statuses.values()} == {health_pb2.HealthCheckResponse.SERVING}


async def test_lists_and_watches_count_as_calls_of_their_caller(valkey_url: str) -> None:
    async with running_server(valkey_url, caller_call_rate=1, caller_burst=2.0) as server:
        stub: Any = health_pb2_grpc.HealthStub(server.channel)
        for _ in range(2):
            await stub.List(LIST)
        error = await error_of(stub.List(LIST))
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "CALL_RATE_EXCEEDED")
        watch = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await error_of_stream(watch)).reason == "CALL_RATE_EXCEEDED"
        await stub.Check(health_pb2.HealthCheckRequest())
