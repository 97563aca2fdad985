from __future__ import annotations

import asyncio
import urllib.error
import urllib.request
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import grpc
import pytest

from distributor.app.server_process import ServerProcess, serving
from distributor.client import ClientCredentials, ClientOptions, CommandClient, CommandRequest
from distributor.errors import PermissionDenied, Unauthenticated
from distributor.model.retry_policy import RetryPolicy
from distributor.settings import ServerSettings
from distributor.v1 import command_service_pb2 as pb
from tests.support.certificates import CertificateMaker
from tests.support.received_errors import error_of
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.running_server import RunningServer, queue_request, quick_settings, running_server


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


POLICY: Final = """
[services.billing]
roles = ["viewer"]
agents = ["web-*"]

[services.bridge]
roles = ["delegate"]
"""


@asynccontextmanager
async def of_services(valkey_url: str, folder: Path) -> AsyncIterator[tuple[ServerProcess, CertificateMaker]]:
    """A server that requires client certificates, knows two services and verifies tokens."""
    maker = CertificateMaker()
    files = maker.server().write(folder, "server")
    (folder / "policy.toml").write_text(POLICY)
    settings = quick_settings(
        valkey_url,
        tls_cert=files.certificate,
        tls_key=files.key,
        client_ca=files.ca,
        mtls_listen="127.0.0.1:0",
        token_key=TOKEN_KEY,
        policy_file=folder / "policy.toml",
        audit="off",
    )
    async with serving(settings) as process:
        yield process, maker


def as_service(process: ServerProcess, maker: CertificateMaker, folder: Path, name: str, **more: Any) -> CommandClient:
    """A client with that service's certificate."""
    own = maker.service(name).write(folder, name)
    credentials = ClientCredentials(own.ca, own.certificate, own.key, **more)
    once = RetryPolicy(attempts=1, first_ms=1, max_ms=1)
    return CommandClient(f"127.0.0.1:{process.mtls_port}", ClientOptions(calls=once, credentials=credentials))


async def test_the_policy_file_says_what_a_service_may_do(valkey_url: str, tmp_path: Path) -> None:
    async with of_services(valkey_url, tmp_path) as (process, maker):
        async with as_service(process, maker, tmp_path, "billing") as billing:
            assert (await billing.list_page()).items == ()
            with pytest.raises(PermissionDenied, match="needs the role operator"):
                await billing.queue(CommandRequest("web-1", "PRINT"))
        async with as_service(process, maker, tmp_path, "unheard-of") as stranger:
            with pytest.raises(PermissionDenied, match="needs the role viewer"):
                await stranger.list_page()
        async with as_service(process, maker, tmp_path, "billing", token="x") as both:
            with pytest.raises(Unauthenticated, match="two identities"):
                await both.list_page()


async def test_a_delegate_by_certificate_has_its_users_grants(valkey_url: str, tmp_path: Path) -> None:
    async with of_services(valkey_url, tmp_path) as (process, maker):
        settings = ServerSettings(token_key=TOKEN_KEY)
        narrow = token_of(settings, "operator", agents=["web-*"])
        async with as_service(process, maker, tmp_path, "bridge") as bridge:
            with pytest.raises(PermissionDenied, match="needs the role viewer"):
                await bridge.list_page()
            async with bridge.on_behalf_of(lambda: narrow) as alice:
                queued = await alice.queue(CommandRequest("web-1", "PRINT"))
                command = await alice.get(queued.command_id)
                requester = command.state.requested_by
                assert requester is not None
                assert (requester.subject, requester.on_behalf_of) == ("bridge", "alice")
                with pytest.raises(PermissionDenied, match="no grant includes it"):
                    await alice.queue(CommandRequest("db-1", "PRINT"))
        async with (
            as_service(process, maker, tmp_path, "billing") as billing,
            billing.on_behalf_of(lambda: narrow) as forged,
        ):
            with pytest.raises(PermissionDenied, match="needs the role delegate"):
                await forged.list_page()


async def test_metrics_of_a_server_need_a_token_while_authentication_is_on(valkey_url: str) -> None:
    async with running_server(valkey_url, token_key=TOKEN_KEY) as server:
        url = f"http://127.0.0.1:{server.process.http_port}"
        narrow = token_of(server.settings, "admin", agents=["web-*"])
        for token, status in (
            ("", 401),
            ("not a token", 401),
            (token_of(server.settings, "delegate"), 403),
            (narrow, 403),
            (token_of(server.settings, "viewer"), 200),
        ):
            assert await status_of(f"{url}/metrics", token) == status
        assert await status_of(f"{url}/healthz", "") == 200
        assert await status_of(f"{url}/readyz", "") == 200
    async with running_server(valkey_url) as server:
        assert await status_of(f"http://127.0.0.1:{server.process.http_port}/metrics", "") == 200


async def status_of(url: str, token: str) -> int:
    """The status of a GET with this token, or without one."""
    headers = {"Authorization": f"Bearer {token}"} if token else {}

    def get() -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
                return int(response.status)
        except urllib.error.HTTPError as error:
            with error:
                return error.code

    return await asyncio.to_thread(get)


async def test_forged_tokens_are_not_checked_any_more_after_too_many(valkey_url: str) -> None:
    limits = {"failed_credentials_rate": 0.01, "failed_credentials_burst": 3}
    async with running_server(valkey_url, token_key=TOKEN_KEY, **limits) as server:
        known = token_of(server.settings, "operator")
        assert await code_of(server, known) == "OK"
        assert [await code_of(server, f"forged {n}") for n in range(4)] == [
            *["UNAUTHENTICATED"] * 3,
            "RESOURCE_EXHAUSTED",
        ]
        metadata = (("authorization", f"Bearer {token_of(server.settings, 'operator')}"),)
        error = await error_of(server.commands.QueueCommand(queue_request(), metadata=metadata))
        assert error.reason == "TOO_MANY_FAILED_CREDENTIALS"
        assert error.retry_after_seconds is not None
        assert 0 < error.retry_after_seconds <= 100
        assert await code_of(server, known) == "OK"
