"""A watch does not outlive the token of its caller."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import grpc
import pytest

from distributor.app.timing import ServerTiming
from distributor.v1 import command_service_pb2 as pb
from distributor.v1 import credentials_pb2
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from tests.support.known_callers import ADMIN, VIEWER, KnownCallers, credentials_of
from tests.support.running_server import running_server
from tests.support.waiting import PATIENCE_SECONDS

KEYED = replace(VIEWER, token_ids=("jti-1",))
TIMING = ServerTiming(deadlines=0.02, liveness=0.02, gauges=0.02, revocations=0.05)


async def test_a_watch_ends_when_its_token_is_revoked_and_others_go_on(valkey_url: str) -> None:
    async with running_server(valkey_url, timing=TIMING, authenticator=KnownCallers(KEYED, ADMIN)) as server:
        request = pb.WatchCommandsRequest(agent_ids=["agent123"])
        watch = server.commands.WatchCommands(request, metadata=credentials_of(KEYED))
        other = server.commands.WatchCommands(request, metadata=credentials_of(ADMIN))
        for call in (watch, other):
            await call.initial_metadata()
        credentials = CredentialServiceStub(server.channel)
        revoke = credentials_pb2.RevokeTokenRequest(token_id="jti-1")
        await credentials.RevokeToken(revoke, metadata=credentials_of(ADMIN))

        async def read() -> None:
            async for _ in watch:
                pass

        async with asyncio.timeout(PATIENCE_SECONDS):
            with pytest.raises(grpc.aio.AioRpcError, match="revoked") as caught:
                await read()
        assert caught.value.code() is grpc.StatusCode.UNAUTHENTICATED
        assert not other.done()
        other.cancel()
