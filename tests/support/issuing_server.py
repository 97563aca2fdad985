"""Servers with mutual TLS whose CA issues certificates, and agents that have one."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import grpc
from pydantic import SecretStr

from distributor.app.server_process import ServerProcess, serving
from distributor.app.timing import ServerTiming
from distributor.settings.tokens import TokenSettings
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.v1.credentials_pb2_grpc import CredentialServiceStub
from distributor.v1.enrolment_pb2_grpc import EnrolmentServiceStub
from distributor.wire.transport import channel_options
from tests.support.certificates import CertificateMaker, Issued
from tests.support.running_bridge import TOKEN_KEY, token_of
from tests.support.running_server import quick_settings
from tests.support.wire_agent import WireAgent, hello

if TYPE_CHECKING:
    from distributor.v1.credentials_pb2_grpc import CredentialServiceAsyncStub
    from distributor.v1.enrolment_pb2_grpc import EnrolmentServiceAsyncStub

AS_ADMIN: Final = (
    (
        "authorization",
        f"Bearer {token_of(TokenSettings(token_key=SecretStr(TOKEN_KEY)), 'admin', subject='ada', lifetime='7d')}",
    ),
)
"""The metadata of an administrator."""
TIMING = ServerTiming(deadlines=0.02, liveness=0.02, gauges=0.02, revocations=0.05)


@dataclass(frozen=True)
class IssuingServer:
    """A server with mutual TLS that issues certificates."""

    process: ServerProcess
    maker: CertificateMaker
    credentials: CredentialServiceAsyncStub
    enrolment: EnrolmentServiceAsyncStub

    @property
    def address(self) -> str:
        """Where agents enrol."""
        return f"127.0.0.1:{self.process.port}"

    @property
    def mutual(self) -> str:
        """Where agents with certificates connect."""
        return f"127.0.0.1:{self.process.mtls_port}"

    def channel(self, peer: Issued | None, address: str = "") -> grpc.aio.Channel:
        """A connection of its own with this certificate; to `mutual` unless another address is given."""
        key, chain = (peer.key_pem, peer.certificate_pem) if peer is not None else (None, None)
        options = [*channel_options(), ("grpc.use_local_subchannel_pool", 1)]
        credentials = grpc.ssl_channel_credentials(self.maker.pem, key, chain)
        return grpc.aio.secure_channel(address or self.mutual, credentials, options=options)

    @asynccontextmanager
    async def stream(self, peer: Issued | None) -> AsyncIterator[WireAgent]:
        """A stream on which nothing was said yet."""
        async with self.channel(peer) as channel:
            agent = WireAgent(AgentGatewayServiceStub(channel).Connect())
            try:
                yield agent
            finally:
                await agent.vanish()

    @asynccontextmanager
    async def agent(self, peer: Issued | None, agent_id: str, **changes: Any) -> AsyncIterator[WireAgent]:
        """An attached agent; it is welcomed."""
        async with self.stream(peer) as agent:
            await agent.send(hello=hello(agent_id, **changes))
            await agent.until(lambda: agent.messages)
            yield agent


@asynccontextmanager
async def issuing_server(
    valkey_url: str, maker: CertificateMaker, folder: Path, **changes: Any
) -> AsyncIterator[IssuingServer]:
    """A server whose CA is `maker`. `changes` are settings; `ca_key=None` for an outside CA."""
    folder.mkdir(parents=True, exist_ok=True)
    files = maker.server().write(folder, "server")
    key = folder / "ca-key.pem"
    key.write_bytes(maker.key_pem)
    tls: dict[str, Any] = {
        "tls_cert": files.certificate,
        "tls_key": files.key,
        "client_ca": files.ca,
        "ca_key": key,
        "mtls_listen": "127.0.0.1:0",
        "token_key": TOKEN_KEY,
    }
    settings = quick_settings(valkey_url, **tls | changes)
    async with serving(settings, timing=TIMING) as process:
        trusted = grpc.ssl_channel_credentials(maker.pem)
        address = f"127.0.0.1:{process.port}"
        async with grpc.aio.secure_channel(address, trusted, options=channel_options()) as channel:
            yield IssuingServer(process, maker, CredentialServiceStub(channel), EnrolmentServiceStub(channel))
