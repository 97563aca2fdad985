"""Asks a server who its caller is."""

from __future__ import annotations

from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self, cast

from distributor.client.options import ClientOptions
from distributor.client.server_channels import ServerChannels
from distributor.client.unary_calls import UnaryCalls
from distributor.v1 import identity_pb2 as pb
from distributor.v1.identity_pb2_grpc import IdentityServiceStub
from distributor.wire.credentials import Connector

if TYPE_CHECKING:
    import grpc

    from distributor.v1.identity_pb2_grpc import IdentityServiceAsyncStub


class Identity(NamedTuple):
    """A caller as its server knows it. `kind` is unknown while authentication is off.

    `grants` are objects with `agents`, `labels` and `types`; None if nothing is excluded. `expires_ms` is when the
    credentials expire, in milliseconds since the epoch; 0 if they do not.
    """

    kind: str
    subject: str
    on_behalf_of: str
    roles: tuple[str, ...]
    grants: tuple[dict[str, Any], ...] | None
    expires_ms: int
    address: str

    @property
    def known(self) -> bool:
        """Whether the server authenticates its callers."""
        return self.kind != "unknown"


class IdentityClient:
    """Makes the calls of IdentityService, inside `async with`."""

    def __init__(self, target: str, options: ClientOptions) -> None:
        self._channels = ServerChannels(target, Connector(options.credentials))
        self._calls = UnaryCalls(target, options)

    async def __aenter__(self) -> Self:
        await self._channels.open()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._channels.close()

    async def who_am_i(self) -> Identity:
        """Return who the caller is. Raises Unauthenticated for credentials that do not count, and Unavailable."""
        stub: IdentityServiceAsyncStub = IdentityServiceStub(cast("grpc.aio.Channel", self._channels))
        return _identity(await self._calls.call(stub.WhoAmI, pb.WhoAmIRequest()))


def _identity(wire: pb.WhoAmIResponse) -> Identity:
    grants = tuple(map(_grant, wire.grants.grants)) if wire.HasField("grants") else None
    expires_ms = wire.expire_time.ToMilliseconds() if wire.HasField("expire_time") else 0
    return Identity(wire.kind, wire.subject, wire.on_behalf_of, tuple(wire.roles), grants, expires_ms, wire.address)


def _grant(wire: pb.Grant) -> dict[str, Any]:
    parts = {"agents": list(wire.agents), "labels": dict(wire.labels), "types": list(wire.types)}
    return {name: value for name, value in parts.items() if value}
