"""What surrounds calls: whatever goes wrong becomes a status, and each call is counted under its code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
import structlog

from distributor.errors import FailedPrecondition
from distributor.observability.metrics import Metrics
from distributor.rpc.interceptors.admission import CallLimit
from distributor.rpc.interceptors.calls import CallInterceptor
from distributor.rpc.method_table import MethodTable
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import (
    CommandServiceServicer,
    CommandServiceStub,
    add_CommandServiceServicer_to_server,
)
from tests.support.received_errors import error_of, error_of_stream
from tests.support.waiting import until


class Behaving(CommandServiceServicer):
    """Does what the command id says."""

    def __init__(self) -> None:
        self.hanging = asyncio.Event()

    async def GetCommand(self, request: pb.GetCommandRequest, context: Any) -> pb.GetCommandResponse:
        await self._behave(request.command_id, context)
        return pb.GetCommandResponse()

    async def WatchCommand(
        self, request: pb.WatchCommandRequest, context: Any
    ) -> AsyncIterator[pb.WatchCommandResponse]:
        yield pb.WatchCommandResponse()
        await self._behave(request.command_id, context)
        yield pb.WatchCommandResponse()

    async def _behave(self, how: str, context: Any) -> None:
        match how:
            case "refuse":
                raise FailedPrecondition("not now", reason="NOT_NOW", field="command_id")
            case "break":
                raise RuntimeError("secret of the inside")
            case "abort":
                await context.abort(grpc.StatusCode.DATA_LOSS, "as it is")
            case "hang":
                self.hanging.set()
                await asyncio.Event().wait()


class Server:
    """The calls of a served Behaving, and what was measured."""

    def __init__(self, channel: grpc.aio.Channel, behaving: Behaving, metrics: Metrics) -> None:
        self.channel = channel
        self.stub: Any = CommandServiceStub(channel)
        self.hanging = behaving.hanging
        self._metrics = metrics

    def get(self, how: str) -> Any:
        return self.stub.GetCommand(pb.GetCommandRequest(command_id=how))

    def watch(self, how: str) -> Any:
        return self.stub.WatchCommand(pb.WatchCommandRequest(command_id=how))

    async def counts(self, method: str, code: str) -> None:
        """Return once one call is counted: when its handler returns, which may be after its caller knows."""
        await until(lambda: self.counted(method, code) == 1)

    def counted(self, method: str, code: str) -> float:
        labels = {"method": method, "code": code}
        return self._metrics.registry.get_sample_value("distributor_rpc_seconds_count", labels) or 0.0


@asynccontextmanager
async def served() -> AsyncIterator[Server]:
    metrics = Metrics()
    methods = MethodTable([CallInterceptor(metrics, CallLimit(1))])
    server = grpc.aio.server(handlers=[methods])
    behaving = Behaving()  # type: ignore[abstract]  # what it has not, gRPC refuses as unimplemented
    methods.add(add_CommandServiceServicer_to_server, behaving)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield Server(channel, behaving, metrics)
    await server.stop(0)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with served() as server:
        yield server


async def test_what_succeeds_is_left_alone(server: Server) -> None:
    assert await server.get("succeed") == pb.GetCommandResponse()
    assert len([update async for update in server.watch("succeed")]) == 2
    await server.counts("GetCommand", "OK")
    await server.counts("WatchCommand", "OK")


async def test_our_errors_become_status(server: Server) -> None:
    for error in (await error_of(server.get("refuse")), await error_of_stream(server.watch("refuse"))):
        assert error == ("FAILED_PRECONDITION", "command_id", "NOT_NOW", "not now", None)
    for method in ("GetCommand", "WatchCommand"):
        await server.counts(method, "FAILED_PRECONDITION")
        assert server.counted(method, "OK") == 0


async def test_unexpected_errors_are_logged_and_tell_the_caller_nothing(server: Server) -> None:
    with structlog.testing.capture_logs() as everything:
        for error in (await error_of(server.get("break")), await error_of_stream(server.watch("break"))):
            assert (error.code, error.reason) == ("INTERNAL", "INTERNAL")
            assert error.text == "internal error; see the server's log"
    # The log of handlers, which are no tasks of ours: servers that other tests share may have something to say, too.
    logs = [line for line in everything if "method" in line]
    assert [(line["log_level"], line["method"]) for line in logs] == [
        ("error", "GetCommand"),
        ("error", "WatchCommand"),
    ]
    assert all(str(line["exc_info"]) == "secret of the inside" for line in logs)
    await server.counts("GetCommand", "INTERNAL")
    await server.counts("WatchCommand", "INTERNAL")


async def test_a_handler_may_abort_by_itself(server: Server) -> None:
    error = await error_of(server.get("abort"))
    assert (error.code, error.text) == ("DATA_LOSS", "as it is")
    # The caller has the status before the handler has ended.
    await server.counts("GetCommand", "DATA_LOSS")


async def test_a_call_that_its_caller_gave_up_is_counted_too(server: Server) -> None:
    getting = server.get("hang")
    await server.hanging.wait()
    getting.cancel()
    await server.counts("GetCommand", "CANCELLED")
    watching = server.watch("hang")
    await watching.read()
    watching.cancel()
    await server.counts("WatchCommand", "CANCELLED")
    assert server.counted("GetCommand", "OK") == server.counted("WatchCommand", "OK") == 0


async def test_a_call_beyond_the_limit_is_refused_and_a_later_one_is_not(server: Server) -> None:
    getting = server.get("hang")
    await server.hanging.wait()
    for error in (await error_of(server.get("succeed")), await error_of_stream(server.watch("succeed"))):
        assert (error.code, error.reason) == ("RESOURCE_EXHAUSTED", "TOO_MANY_CALLS")
    getting.cancel()
    await server.counts("GetCommand", "CANCELLED")
    assert await server.get("succeed") == pb.GetCommandResponse()
    assert len([update async for update in server.watch("succeed")]) == 2


async def test_methods_that_do_not_exist_leave_nothing_behind(server: Server) -> None:
    call: Any = server.channel.unary_unary("/distributor.v1.CommandService/NoSuchMethod")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call(b"")
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert server.counted("NoSuchMethod", "UNIMPLEMENTED") == 0
