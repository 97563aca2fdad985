"""A server with TLS and authentication: agents by client certificates, callers by tokens."""

from __future__ import annotations

import secrets
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import grpc
from pydantic import SecretStr

from bench.agents import AgentsPlan
from bench.child import ROOT, Child
from bench.cluster import ATTACH_TIMEOUT_SECONDS, Cluster, ServerVariant
from distributor.cli.token import TokenRequest, token_for
from distributor.identity.authority import Authority
from distributor.identity.certificates import Holder, PeerKind, PeerName
from distributor.identity.private_keys import new_key, private_pem
from distributor.settings import ServerSettings
from distributor.wire.credentials import ClientCredentials, Connector, Metadata

LIFETIME: Final = timedelta(hours=12)
TRUST_DOMAIN: Final = "distributor"


class SecuredCluster(Cluster):
    """Like Cluster, with every credential that a deployment has. Everything in `folder`."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder, ServerVariant())
        self._authority = Authority.create(datetime.now(UTC))
        (folder / "ca.pem").write_bytes(self._authority.certificate_pem)
        self._certify(None, "server")
        self._mtls_address = f"127.0.0.1:{_free_port()}"
        key = secrets.token_hex(32)
        self._issuer = ServerSettings(token_key=SecretStr(key))
        self._authorization = self.authorization_of("bench")
        settings = {
            "VALKEY_URL": self.valkey_url,
            "TLS_CERT": folder / "server.pem",
            "TLS_KEY": folder / "server.key",
            "CLIENT_CA": folder / "ca.pem",
            "MTLS_LISTEN": self._mtls_address,
            "TOKEN_KEY": key,
            "AUDIT": "off",
        }
        self._server = Child(
            "server",
            folder,
            str(ROOT / "cmd" / "distributor_server.py"),
            *("serve", "--listen", "127.0.0.1:0", "--http-listen", "127.0.0.1:0", "--log-format", "json"),
            environment={f"DISTRIBUTOR_{name}": str(value) for name, value in settings.items()},
        )

    @property
    def authorization(self) -> Metadata:
        """The metadata of a caller who may queue commands."""
        return self._authorization

    def authorization_of(self, subject: str, agents: Sequence[str] = (), labels: Sequence[str] = ()) -> Metadata:
        """Return the metadata of an operator with one grant, by agents and labels; without any, for everything."""
        request = TokenRequest(subject, "12h", roles=["operator"], agents=agents, labels=labels)
        return Connector(ClientCredentials(token=token_for(self._issuer, request))).authorization()

    def channel(self) -> grpc.aio.Channel:
        """Open a separate connection to the server, over TLS."""
        connector = Connector(ClientCredentials(ca=self._folder / "ca.pem"))
        return connector.channel(self.address, [("grpc.use_local_subchannel_pool", 1)])

    @asynccontextmanager
    async def agents(self, prefix: str, count: int, capacity: int) -> AsyncIterator[Child]:
        """Run a process with `count` agents, each with a certificate of its own."""
        plan = AgentsPlan(self._mtls_address, prefix, count, capacity, str(self._folder))
        for agent_id in plan.ids():
            self._certify(PeerName(PeerKind.AGENT, agent_id), agent_id)
        async with self.child(prefix, "-m", "bench.agents", plan.dump()) as process:
            await process.line(ATTACH_TIMEOUT_SECONDS)
            yield process

    def _certify(self, peer: PeerName | None, name: str) -> None:
        """Write NAME.pem and NAME.key: of a client, or of the server."""
        key, now = new_key(), datetime.now(UTC)
        if peer is None:
            issued = self._authority.issue_server(["127.0.0.1"], key.public_key(), now, LIFETIME)
        else:
            issued = self._authority.issue_peer(Holder(peer), TRUST_DOMAIN, key.public_key(), now, LIFETIME)
        (self._folder / f"{name}.pem").write_bytes(issued.pem)
        (self._folder / f"{name}.key").write_bytes(private_pem(key))


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return int(listener.getsockname()[1])
