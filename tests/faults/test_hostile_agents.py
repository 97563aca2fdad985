"""Agents that hold on to a stream without taking part: the server lets go of each in bounded time and memory."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from distributor.app.timing import ServerTiming
from distributor.dispatch.agent_registry import CloseReason
from distributor.dispatch.refusals import superseded
from distributor.model.agent_report import Answers
from distributor.model.agent_session import MAX_ITEMS_PER_MESSAGE
from distributor.rpc import agent_gateway, agent_stream
from distributor.rpc.agent_outbox import AgentOutbox
from distributor.rpc.agent_stream import AgentStream
from distributor.rpc.stream_writer import MAX_WAITING_ACKS
from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1.command_service_pb2 import ListCommandsRequest
from distributor.wire.transport import channel_options
from tests.support.received_errors import ToldError, told
from tests.support.running_server import ASSIGNED, QUEUED, RunningServer, running_server
from tests.support.serving_agent import background
from tests.support.waiting import PATIENCE_SECONDS, eventually
from tests.support.wire_agent import hello, opened_stream, raw_stream

QUICK = {"heartbeat_interval": 0.1, "start_within": 1.0, "offline_after": 2.0, "ack_deadline": 2.0}
"""An agent is taken for gone soon, but not while it is still being attached on a busy machine."""


def attached(server: RunningServer) -> float | None:
    return server.process.metrics.registry.get_sample_value("distributor_agents_connected")


async def end_of(call: Any) -> ToldError:
    """How the server ended the stream: read to the end."""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(grpc.aio.AioRpcError):
            while await call.read() is not grpc.aio.EOF:
                pass
    return told(await call.code(), await call.details(), await call.trailing_metadata())


async def test_an_agent_that_does_not_read_is_let_go_although_a_write_to_it_is_stuck(valkey_url: str) -> None:
    async with running_server(valkey_url, **QUICK, delivery_attempts=100) as server:
        ids = [await server.queue(params={"text": "x" * 250_000}) for _ in range(60)]
        call = raw_stream(server.channel)
        await call.write(pb.ConnectRequest(hello=hello(capacity=1_000)).SerializeToString())

        async def taken() -> bool:
            return attached(server) == 1

        async def let_go() -> bool:
            return attached(server) == 0

        await eventually(taken)
        await eventually(let_go)
        # Should it ever read again, it learns why.
        error = await end_of(call)
        assert (error.code, error.reason) == ("ABORTED", "SILENT")
        # Nothing was lost with it: what it was given is given out again, or waits for that.
        listed = await server.commands.ListCommands(ListCommandsRequest(page_size=1_000))
        assert {command.command_id for command in listed.commands} == set(ids)
        assert {command.state.status for command in listed.commands} <= {QUEUED, ASSIGNED}
        info = await server.until_away()
        assert info.HasField("away_since")


@asynccontextmanager
async def deaf_agent(server: RunningServer, **changes: Any) -> AsyncIterator[Any]:
    """The call of an attached agent that reads nothing and lets little pile up for it."""
    options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
    async with grpc.aio.insecure_channel(server.address, options=options) as channel:
        call = raw_stream(channel)
        await call.write(pb.ConnectRequest(hello=hello(**changes)).SerializeToString())

        async def taken() -> bool:
            return attached(server) == 1

        await eventually(taken)
        try:
            yield call
        finally:
            call.cancel()


async def test_an_agent_that_reports_without_end_and_never_reads_is_ended_for_its_silence(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waiting: list[int] = []

    class WatchedOutbox(AgentOutbox):
        def answer(self, answers: Answers) -> None:
            super().answer(answers)
            waiting.append(self.waiting_acks)

    monkeypatch.setattr(agent_stream, "AgentOutbox", WatchedOutbox)
    # Unknown to the server, which says so of each.
    results = [pb.Result(command_id=f"{n:064}", lease_id="l") for n in range(MAX_ITEMS_PER_MESSAGE)]
    message = pb.ConnectRequest(results=results).SerializeToString()
    async with running_server(valkey_url, **QUICK) as server, deaf_agent(server) as call:

        async def flood() -> None:
            with contextlib.suppress(grpc.aio.AioRpcError, asyncio.InvalidStateError):
                while True:
                    await call.write(message)

        async def let_go() -> bool:
            return attached(server) == 0

        async with background(flood()):
            await eventually(let_go)
            assert MAX_WAITING_ACKS < max(waiting) <= MAX_WAITING_ACKS + MAX_ITEMS_PER_MESSAGE
            assert (await server.until_away()).HasField("away_since")


async def test_an_agent_that_says_goodbye_and_reads_nothing_is_away_soon(valkey_url: str) -> None:
    async with running_server(valkey_url, offline_after=3 * PATIENCE_SECONDS) as server:
        command_id = await server.queue(params={"text": "x" * 250_000})
        async with deaf_agent(server) as call:
            await server.until_state(command_id, lambda state: state.status == ASSIGNED)
            await call.write(pb.ConnectRequest(goodbye=pb.Goodbye(reason="test")).SerializeToString())
            await call.done_writing()
            # Its silence would be noticed much later than we wait for.
            assert (await server.until_away()).HasField("away_since")
            assert (await end_of(call)).code == "OK"


async def test_a_stream_on_which_nothing_is_said_is_ended(valkey_url: str) -> None:
    async with (
        running_server(valkey_url, timing=ServerTiming(hello=0.2)) as server,
        opened_stream(server.address) as silent,
    ):
        error = told(await silent.ended(), silent.details, silent.trailing)
        assert (error.code, error.reason) == ("ABORTED", "NO_HELLO")
        assert "within 0.2 s" in error.text


async def test_a_stream_that_ends_for_two_reasons_at_once_has_one_end_and_logs_no_error(
    valkey_url: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class EndedTwice(AgentStream):
        def _heartbeat(self, heartbeat: pb.Heartbeat, now: float) -> None:
            # The session is taken for silent at the moment at which the store knows of a newer one.
            self.end(CloseReason.SILENT)
            raise superseded()

    monkeypatch.setattr(agent_gateway, "AgentStream", EndedTwice)
    async with running_server(valkey_url) as server, opened_stream(server.address) as call:
        await call.send(hello=hello())
        await call.send(heartbeat=pb.Heartbeat(sequence=1))
        error = told(await call.ended(), call.details, call.trailing)
        assert (error.code, error.reason) == ("ABORTED", "SILENT")
        assert (await server.until_away()).HasField("away_since")
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR] == []
