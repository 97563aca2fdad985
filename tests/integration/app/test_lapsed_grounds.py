"""Streams end with what their caller's credentials rest on: the key of a token, and a service's table in the policy."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import pytest
from structlog.testing import capture_logs

from distributor.app.server_process import ServerProcess, serving
from distributor.app.timing import ServerTiming
from distributor.client import ClientCredentials, ClientOptions
from distributor.client.credential_client import CredentialClient
from distributor.errors import NotFound
from distributor.model.revocation import RevokedKind
from distributor.settings import ServerSettings
from distributor.v1 import command_service_pb2 as pb
from distributor.v1.command_service_pb2_grpc import CommandServiceStub
from distributor.wire.credentials import Connector
from tests.support.certificates import CertificateMaker
from tests.support.received_errors import ToldError, error_of_stream
from tests.support.running_server import quick_settings, running_server
from tests.support.token_issuer import KEY, signed
from tests.support.waiting import PATIENCE_SECONDS, until

TIMING: Final = ServerTiming(deadlines=0.02, liveness=0.02, gauges=0.02, revocations=0.05)
POLICY: Final = """
[services.billing]
roles = ["viewer"]
[services.bridge]
roles = ["delegate"]
[services.reports]
roles = ["viewer"]
"""
Metadata = tuple[tuple[str, str], ...]


class Services:
    """A server that knows services by their certificates, and its policy file."""

    def __init__(self, process: ServerProcess, settings: ServerSettings, maker: CertificateMaker, folder: Path) -> None:
        self.process = process
        self._settings = settings
        self.policy = folder / "policy.toml"
        self._maker = maker
        self._folder = folder

    @asynccontextmanager
    async def replica(self) -> AsyncIterator[Services]:
        """Another server on the same Valkey."""
        async with serving(self._settings, (), TIMING) as process:
            yield Services(process, self._settings, self._maker, self._folder)

    @asynccontextmanager
    async def channel(self, service: str, valid_from: datetime | None = None) -> AsyncIterator[grpc.aio.Channel]:
        """A connection with the certificate of a service; without a `service`, to the address for tokens."""
        issued = self._maker.service(service or "none", valid_from=valid_from)
        own = issued.write(self._folder, service or "none")
        if service:
            connector, port = Connector(ClientCredentials(own.ca, own.certificate, own.key)), self.process.mtls_port
        else:
            connector, port = Connector(ClientCredentials(own.ca)), self.process.port
        channel = connector.channel(f"127.0.0.1:{port}")
        try:
            yield channel
        finally:
            await channel.close()

    def administration(self) -> CredentialClient:
        """A client of an administrator."""
        own = self._maker.service("none").write(self._folder, "none")
        credentials = ClientCredentials(own.ca, token=signed(roles=["admin"]))
        return CredentialClient(f"127.0.0.1:{self.process.port}", ClientOptions(credentials=credentials))

    async def list_once(self, service: str, metadata: Metadata = (), valid_from: datetime | None = None) -> None:
        """A call of a service on a new connection."""
        async with self.channel(service, valid_from) as channel:
            await CommandServiceStub(channel).ListCommands(pb.ListCommandsRequest(), metadata=metadata)

    @asynccontextmanager
    async def watch(self, service: str, metadata: Metadata = ()) -> AsyncIterator[Any]:
        """A watch of everything by a service, after its first response."""
        async with self.channel(service) as channel:
            call = CommandServiceStub(channel).WatchCommands(pb.WatchCommandsRequest(), metadata=metadata)
            assert await call.read() is not grpc.aio.EOF
            yield call


@pytest.fixture
async def services(valkey_url: str, tmp_path: Path) -> AsyncIterator[Services]:
    maker = CertificateMaker()
    files = maker.server().write(tmp_path, "server")
    (tmp_path / "policy.toml").write_text(POLICY)
    settings = quick_settings(
        valkey_url,
        tls_cert=files.certificate,
        tls_key=files.key,
        client_ca=files.ca,
        mtls_listen="127.0.0.1:0",
        token_key=KEY,
        policy_file=tmp_path / "policy.toml",
    )
    async with serving(settings, (), TIMING) as process:
        yield Services(process, settings, maker, tmp_path)


async def end_of(call: Any) -> ToldError:
    async with asyncio.timeout(PATIENCE_SECONDS):
        return await error_of_stream(call)


@pytest.mark.parametrize(
    "changed",
    ["", '[services.billing]\nroles = ["viewer"]\nagents = ["web-*"]\n'],
    ids=["the table is removed", "it is narrowed"],
)
async def test_a_changed_policy_ends_the_streams_of_the_service(services: Services, changed: str) -> None:
    reports = '[services.reports]\nroles = ["viewer"]\n'
    async with services.watch("billing") as changing, services.watch("reports") as other:
        services.policy.write_text(changed + reports)
        end = await end_of(changing)
        assert (end.code, end.reason) == ("UNAVAILABLE", "PERMISSIONS_CHANGED")
        assert not other.done()


async def test_a_changed_policy_ends_what_a_delegate_does_for_users(services: Services) -> None:
    alice = (("distributor-on-behalf-of", signed(roles=["viewer"])),)
    async with services.watch("bridge", alice) as watch:
        services.policy.write_text('[services.bridge]\nroles = ["viewer"]\n')
        assert (await end_of(watch)).reason == "PERMISSIONS_CHANGED"


async def test_a_revoked_service_gets_nothing_more_with_its_certificate(services: Services) -> None:
    users = (("distributor-on-behalf-of", signed(roles=["viewer"])),)
    async with (
        services.watch("billing") as own,
        services.watch("reports") as other,
        services.watch("bridge", users) as delegated,
        services.administration() as administration,
    ):
        for service, call in (("billing", own), ("bridge", delegated)):
            entry = await administration.revoke_service(service, "stolen")
            assert (entry.kind, entry.subject, entry.revoked_by) == (RevokedKind.SERVICE, service, "user:alice")
            assert (await end_of(call)).reason == "CREDENTIALS_REVOKED"
            with pytest.raises(grpc.aio.AioRpcError, match="revoked"):
                await services.list_once(service, users if call is delegated else ())
        assert not other.done()
        assert [entry.subject for entry in await administration.revocations()] == ["bridge", "billing"]
        await administration.restore_service("billing")
        await services.list_once("billing")
        with pytest.raises(NotFound, match="'billing' is not revoked"):
            await administration.restore_service("billing")


async def test_a_service_is_revoked_on_every_server(services: Services) -> None:
    async with (
        services.replica() as replica,
        replica.watch("billing") as watch,
        services.administration() as administration,
    ):
        await administration.revoke_service("billing")
        assert (await end_of(watch)).reason == "CREDENTIALS_REVOKED"
        with pytest.raises(grpc.aio.AioRpcError, match="revoked"):
            await replica.list_once("billing")


async def test_a_certificate_that_begins_after_the_revocation_counts(services: Services) -> None:
    async with services.administration() as administration:
        entry = await administration.revoke_service("billing")
        with pytest.raises(grpc.aio.AioRpcError, match="revoked"):
            await services.list_once("billing")
    begins = (entry.revoked_ms // 1000 + 1) - time.time()
    await asyncio.sleep(max(0.0, begins))
    await services.list_once("billing", valid_from=datetime.now(UTC))


async def test_a_revoked_service_gets_nothing_more_with_its_token(services: Services) -> None:
    token = signed(roles=["viewer"], kind="service", sub="reader", issued_in=-1)
    async with services.administration() as administration, services.channel("") as channel:
        metadata = (("authorization", f"Bearer {token}"),)
        call: Any = CommandServiceStub(channel).WatchCommands(pb.WatchCommandsRequest(), metadata=metadata)
        assert await call.read() is not grpc.aio.EOF
        await administration.revoke_service("reader")
        assert (await end_of(call)).reason == "CREDENTIALS_REVOKED"


async def test_a_removed_key_ends_the_streams_of_its_tokens(valkey_url: str, tmp_path: Path) -> None:
    keys = [tmp_path / "first", tmp_path / "second"]
    keys[0].write_text(KEY)
    keys[1].write_text("second" * 6)
    async with running_server(valkey_url, token_key_file=tuple(keys), timing=TIMING) as server:
        metadata = (("authorization", f"Bearer {signed(roles=['viewer'])}"),)
        call: Any = server.commands.WatchCommands(pb.WatchCommandsRequest(), metadata=metadata)
        assert await call.read() is not grpc.aio.EOF
        with capture_logs() as lines:
            keys[1].write_text("third-" * 6)
            await until(lambda: any(line["event"] == "token keys changed" for line in lines))
        assert not call.done()
        keys[0].write_text("fourth" * 6)
        end = await end_of(call)
        assert (end.code, end.reason) == ("UNAUTHENTICATED", "TOKEN_KEY_REMOVED")
