"""A gateway that plays a script: a real gRPC server that hands each stream to the script."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import grpc
from google.rpc.error_details_pb2 import ErrorInfo, RetryInfo
from google.rpc.status_pb2 import Status
from grpc import aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from distributor.conformance.scripted_session import PATIENCE_SECONDS, ScriptedSession
from distributor.conformance.served_tls import ServedTls
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2_grpc as gateway_grpc
from distributor.wire.transport import ERROR_DETAILS_KEY, ERROR_DOMAIN, server_options

Trailing = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The status with which the next Hello is answered. `retry_after` is in seconds."""

    code: grpc.StatusCode
    reason: str = ""
    retry_after: float | None = None


class ScriptedGateway(gateway_grpc.AgentGatewayServiceServicer):
    """Hands each attached stream to the script. `refuse` makes it answer the next Hellos with these codes."""

    def __init__(
        self,
        port: int,
        host: str = "127.0.0.1",
        patience: float = PATIENCE_SECONDS,
        tls: ServedTls | None = None,
    ) -> None:
        """Create one that listens on `port`, 0 for any free port; in plain text without `tls`.

        `patience` is in seconds.
        """
        self.sessions: asyncio.Queue[ScriptedSession] = asyncio.Queue()
        self.refuse: list[grpc.StatusCode | Refusal] = []
        self.retry_after_seconds: float | None = None
        self.hello_times: list[float] = []
        """When each Hello came, in seconds of the event loop's clock."""
        self.connected = asyncio.Event()
        """Set by the first Hello."""
        self.port = port
        self.patience = patience
        self._host = host
        self._tls = tls
        self._stranger = ""
        """Why the last stream was refused without its Hello being read; empty if none was."""
        self._server: aio.Server | None = None
        self._health = health.aio.HealthServicer()

    @property
    def hellos(self) -> int:
        """Number of Hellos so far."""
        return len(self.hello_times)

    @property
    def address(self) -> str:
        """Where it listens."""
        host = f"[{self._host}]" if ":" in self._host else self._host
        return f"{host}:{self.port}"

    async def Connect(self, request_iterator: Any, context: Any) -> None:  # type: ignore[override]
        """Serve one stream."""
        if self._tls and (reason := self._tls.refusal(context.invocation_metadata())):
            self._stranger = f"; a stream without the token that --tls wrote was refused ({reason})"
            stranger = Refusal(grpc.StatusCode.UNAUTHENTICATED, reason)
            await context.abort(stranger.code, "the token is missing or wrong", error_details(stranger))
        first = await context.read()
        if first is aio.EOF:
            return
        self.hello_times.append(asyncio.get_running_loop().time())
        self.connected.set()
        if self.refuse:
            refusal = self.refuse.pop(0)
            if isinstance(refusal, grpc.StatusCode):
                refusal = Refusal(refusal, retry_after=self.retry_after_seconds)
            await context.abort(refusal.code, "refused by the script", error_details(refusal))
        session = ScriptedSession(first, context, patience=self.patience)
        self.sessions.put_nowait(session)
        await session.run()

    async def session(self, **welcome_changes: Any) -> ScriptedSession:
        """The next attached stream, welcomed."""
        session = await self.attached()
        await session.welcome(**welcome_changes)
        return session

    async def attached(self, limit: float | None = None) -> ScriptedSession:
        """The next attached stream, not welcomed yet. Raises Unmet if none comes within `limit` seconds."""
        limit = self.patience if limit is None else limit
        try:
            async with asyncio.timeout(limit):
                return await self.sessions.get()
        except TimeoutError as error:
            raise Unmet(f"no Hello within {limit:g} s{self._stranger}", "a stream with a Hello") from error

    async def start(self) -> None:
        """Listen; again on the same port after a stop. Raises RuntimeError if the port is taken."""
        self._server = aio.server(options=server_options())
        gateway_grpc.add_AgentGatewayServiceServicer_to_server(self, self._server)
        self._health = health.aio.HealthServicer()
        await self.set_serving(True)
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        if self._tls is None:
            self.port = self._server.add_insecure_port(self.address)
        else:
            self.port = self._server.add_secure_port(self.address, self._tls.credentials())
        await self._server.start()

    async def set_serving(self, serving: bool) -> None:
        """Set what health checks report."""
        status = health_pb2.HealthCheckResponse.SERVING if serving else health_pb2.HealthCheckResponse.NOT_SERVING
        await self._health.set("", status)

    async def stop(self) -> None:
        """Stop listening, and cut every stream."""
        if self._server:
            await self._server.stop(0)


def error_details(refusal: Refusal) -> Trailing:
    """Trailing metadata with the details of a status, as a server sends them; empty without reason and delay."""
    if refusal.retry_after is None and not refusal.reason:
        return ()
    status = Status()
    if refusal.reason:
        status.details.add().Pack(ErrorInfo(reason=refusal.reason, domain=ERROR_DOMAIN))
    if refusal.retry_after is not None:
        info = RetryInfo()
        info.retry_delay.FromMilliseconds(round(refusal.retry_after * 1_000))
        status.details.add().Pack(info)
    return ((ERROR_DETAILS_KEY, status.SerializeToString()),)
