"""Asks a server who its caller is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from distributor.client.service_client import ServiceClient
from distributor.v1 import identity_pb2 as pb
from distributor.v1.identity_pb2_grpc import IdentityServiceStub
from distributor.wire.times import bounded_ms

if TYPE_CHECKING:
    import grpc

    from distributor.v1.identity_pb2_grpc import IdentityServiceAsyncStub


class Identity(NamedTuple):
    """A caller as its server knows it. `kind` is unknown while authentication is off.

    `grants` are objects with `agents`, `labels` and `types`; None if nothing is excluded. `expires_ms` is when the
    credentials expire, in milliseconds since the epoch; 0 if they do not. `insecure` names what is unsafe about the
    server: `unauthenticated`, `plain_text`, `plain_http`.
    """

    kind: str
    subject: str
    on_behalf_of: str
    roles: tuple[str, ...]
    grants: tuple[dict[str, Any], ...] | None
    expires_ms: int
    address: str
    insecure: tuple[str, ...] = ()

    @property
    def known(self) -> bool:
        """Whether the server authenticates its callers."""
        return self.kind != "unknown"


class IdentityClient(ServiceClient["IdentityServiceAsyncStub"]):
    """For every caller."""

    async def who_am_i(self) -> Identity:
        """Return who the caller is. Raises Unauthenticated for credentials that do not count, and Unavailable."""
        return _identity(await self._calls.call(self._stub.WhoAmI, pb.WhoAmIRequest()))

    def _make_stub(self, channel: grpc.aio.Channel) -> IdentityServiceAsyncStub:
        return IdentityServiceStub(channel)


def _identity(wire: pb.WhoAmIResponse) -> Identity:
    grants = tuple(map(_grant, wire.grants.grants)) if wire.HasField("grants") else None
    expires_ms = bounded_ms(wire.expire_time) if wire.HasField("expire_time") else 0
    return Identity(
        wire.kind,
        wire.subject,
        wire.on_behalf_of,
        tuple(wire.roles),
        grants,
        expires_ms,
        wire.address,
        tuple(wire.insecure),
    )


def _grant(wire: pb.Grant) -> dict[str, Any]:
    parts = {"agents": list(wire.agents), "labels": dict(wire.labels), "types": list(wire.types)}
    return {name: value for name, value in parts.items() if value}
