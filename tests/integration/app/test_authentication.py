from __future__ import annotations

import grpc
import pytest

from distributor.v1 import command_service_pb2 as pb
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.running_server import RunningServer, queue_request, running_server


async def code_of(server: RunningServer, *tokens: str) -> str:
    """The code with which a server answers QueueCommand to a caller with this token."""
    metadata = [("authorization", f"Bearer {token}") for token in tokens]
    try:
        await server.commands.QueueCommand(queue_request("agent123", "PRINT"), metadata=metadata)
    except grpc.aio.AioRpcError as error:
        return error.code().name
    return "OK"


async def test_a_key_turns_authentication_on(valkey_url: str) -> None:
    async with running_server(valkey_url, token_key=TOKEN_KEY) as server:
        assert await code_of(server) == "UNAUTHENTICATED"
        assert await code_of(server, "not a token") == "UNAUTHENTICATED"
        assert await code_of(server, token_of(server.settings, "viewer")) == "PERMISSION_DENIED"
        assert await code_of(server, token_of(server.settings, "operator")) == "OK"


async def test_without_a_key_everyone_is_served(valkey_url: str) -> None:
    async with running_server(valkey_url) as server:
        assert await code_of(server) == "OK"


async def test_a_delegate_calls_on_behalf_of_its_user(valkey_url: str) -> None:
    async with running_server(valkey_url, token_key=TOKEN_KEY) as server:
        bridge = token_of(server.settings, "delegate", subject="bridge")
        for role, code in (("operator", "OK"), ("viewer", "PERMISSION_DENIED")):
            metadata = [
                ("authorization", f"Bearer {bridge}"),
                ("distributor-on-behalf-of", token_of(server.settings, role)),
            ]
            if code == "OK":
                await server.commands.QueueCommand(queue_request("agent123", "PRINT"), metadata=metadata)
                continue
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await server.commands.QueueCommand(queue_request("agent123", "PRINT"), metadata=metadata)
            assert caught.value.code().name == code
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await server.commands.ListCommands(
                pb.ListCommandsRequest(), metadata=[("authorization", f"Bearer {bridge}")]
            )
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED
