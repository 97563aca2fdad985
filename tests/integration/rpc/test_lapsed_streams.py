"""Whatever a credential has begun ends with it: each streaming method of a real server, with real tokens."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from distributor.app.timing import ServerTiming
from distributor.v1 import command_service_pb2 as pb
from distributor.v1 import credentials_pb2
from distributor.v1.agent_gateway_pb2 import HaltMemory
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from tests.support.audited_server import audited_server
from tests.support.open_streams import CONNECT, REQUESTS, Metadata, opened, streaming
from tests.support.received_errors import ToldError, error_of_stream
from tests.support.running_server import RunningServer, queue_request
from tests.support.token_issuer import KEY, signed
from tests.support.waiting import PATIENCE_SECONDS
from tests.support.wire_agent import wire_agent

TIMING: Final = ServerTiming(deadlines=0.02, liveness=0.02, gauges=0.02, revocations=0.05)
OUTPUT_BYTES: Final = 24 * 1024 * 1024
PIECE_BYTES: Final = 64 * 1024


@pytest.fixture
async def server(valkey_url: str, tmp_path: Path) -> AsyncIterator[RunningServer]:
    """A server that knows tokens of KEY, with everything that can be turned on."""
    settings: dict[str, Any] = {"reflection": True, "token_key": KEY, "authenticator": None, "timing": TIMING}
    settings |= {"output_kept_bytes": OUTPUT_BYTES, "offline_after": 600.0}
    async with audited_server(valkey_url, tmp_path / "audit.key", **settings) as server:
        yield server


def with_token(**claims: Any) -> Metadata:
    """Metadata with a token that has these claims; an administrator's unless they say otherwise."""
    return (("authorization", f"Bearer {signed(**{'roles': ['admin']} | claims)}"),)


def caller_of(method: str, **claims: Any) -> Metadata:
    """A caller that may call the method."""
    agent: dict[str, Any] = {"roles": ["agent"], "sub": "agent123", "scope": ""}
    return with_token(**claims, **(agent if method == CONNECT else {}))


async def end_of(call: Any) -> ToldError:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await error_of_stream(call)


async def revoke(server: RunningServer, token_id: str) -> None:
    request = credentials_pb2.RevokeTokenRequest(token_id=token_id)
    await CredentialServiceStub(server.channel).RevokeToken(request, metadata=with_token())


async def test_every_streaming_method_has_a_stream_to_open(server: RunningServer) -> None:
    assert streaming(server.process.methods) == REQUESTS.keys()


@pytest.fixture
async def silent_agent(server: RunningServer) -> AsyncIterator[None]:
    """An agent that does not answer a stop, so that the stop can be watched."""
    credentials = with_token(roles=["agent"], sub="silent", scope="")
    async with wire_agent(server.address, "silent", credentials=credentials, halts=HaltMemory()):
        yield


@pytest.mark.parametrize("method", REQUESTS, ids=lambda method: method.rpartition("/")[2])
async def test_no_stream_outlives_the_revocation_of_its_token(
    server: RunningServer, silent_agent: None, method: str
) -> None:
    token_id = uuid.uuid4().hex
    call = await opened(server, method, caller_of(method, jti=token_id), with_token())
    await revoke(server, token_id)
    end = await end_of(call)
    assert (end.code, end.reason) == ("UNAUTHENTICATED", "CREDENTIALS_REVOKED")


async def test_no_stream_outlives_its_token(server: RunningServer, silent_agent: None) -> None:
    """All together, as they take as long as a token must live for all to be opened on a busy machine."""
    calls = {method: await opened(server, method, caller_of(method, lifetime=8), with_token()) for method in REQUESTS}
    for method, call in calls.items():
        end = await end_of(call)
        assert (end.code, end.reason) == ("UNAUTHENTICATED", "CREDENTIALS_EXPIRED"), method


async def test_a_slow_reader_gets_what_was_on_its_way_and_nothing_more(server: RunningServer) -> None:
    """The output is far more than what may be on its way to a peer that does not read."""
    token_id, admin = uuid.uuid4().hex, with_token()
    agent_token = with_token(roles=["agent"], sub="agent123", scope="")
    async with wire_agent(server.address, credentials=agent_token) as agent:
        queued = await server.commands.QueueCommand(queue_request(), metadata=admin)
        (assignment,) = await agent.assigned()
        await agent.start(assignment)
        offset = 0
        while offset < OUTPUT_BYTES:
            await agent.print(assignment, bytes(PIECE_BYTES), offset)
            offset += PIECE_BYTES
        request = pb.WatchCommandRequest(command_id=queued.command.command_id)
        call: Any = server.commands.WatchCommand(request, metadata=with_token(jti=token_id))
        await call.read()
        await revoke(server, token_id)
        received = 0

        async def read_on() -> None:
            nonlocal received
            async with asyncio.timeout(PATIENCE_SECONDS):
                while (response := await call.read()) is not grpc.aio.EOF:
                    received += response.ByteSize()

        with pytest.raises(grpc.aio.AioRpcError, match="revoked"):
            await read_on()
    assert received < OUTPUT_BYTES / 2


async def test_who_may_go_on_does(server: RunningServer) -> None:
    method, token_id = "/distributor.v1.CommandService/WatchCommands", uuid.uuid4().hex
    other = await opened(server, method, with_token(), with_token())
    revoked = await opened(server, method, with_token(jti=token_id), with_token())
    await revoke(server, token_id)
    await end_of(revoked)
    assert not other.done()
    other.cancel()
