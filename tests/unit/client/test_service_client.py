"""Clients of services: opened and closed in one way, over channels of their own or of another client."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Self

import grpc
import pytest

from distributor.client import ClientOptions, CommandClient
from distributor.client.audit_client import AuditClient
from distributor.client.credential_client import CredentialClient
from distributor.client.emergency_client import EmergencyClient
from distributor.client.identity_client import IdentityClient
from distributor.client.service_client import ServiceClient
from distributor.errors import Unauthenticated
from distributor.v1.identity_pb2 import WhoAmIResponse

TARGET = "127.0.0.1:1"

CALLS: dict[str, tuple[Callable[[], Any], Callable[[Any], Awaitable[object]]]] = {
    "audit": (lambda: AuditClient(TARGET), lambda client: client.page()),
    "commands": (lambda: CommandClient(TARGET), lambda client: client.agent("a1")),
    "credentials": (lambda: CredentialClient(TARGET), lambda client: client.revocations()),
    "emergency": (lambda: EmergencyClient(TARGET), lambda client: client.stops()),
    "identity": (lambda: IdentityClient(TARGET), lambda client: client.who_am_i()),
}


class RefusedStream:
    """A call whose server refuses its caller."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> object:
        raise grpc.aio.AioRpcError(grpc.StatusCode.UNAUTHENTICATED, grpc.aio.Metadata(), grpc.aio.Metadata(), "no")


class AnsweringChannels:
    """Channels of another client, whose server knows the caller as ada and refuses streams."""

    def unary_unary(self, method: str, **options: Any) -> Callable[..., Any]:
        async def answer(request: object, *, timeout: float) -> WhoAmIResponse:
            return WhoAmIResponse(kind="user", subject="ada")

        return answer

    def unary_stream(self, method: str, **options: Any) -> Callable[..., Any]:
        return lambda request: RefusedStream()


@pytest.mark.parametrize("service", CALLS)
async def test_a_client_that_is_not_open_says_so(service: str) -> None:
    make, call = CALLS[service]
    client: ServiceClient[object] = make()
    with pytest.raises(RuntimeError, match="not open"):
        await call(client)
    async with client:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        await call(client)


async def test_a_client_that_is_not_open_lends_its_channels_to_none() -> None:
    client = CommandClient(TARGET)
    for part in (client.audit, client.emergency):
        with pytest.raises(RuntimeError, match="not open"):
            part()


async def test_a_client_over_the_channels_of_another_is_open() -> None:
    client = IdentityClient.over(AnsweringChannels(), TARGET, ClientOptions())
    assert (await client.who_am_i()).subject == "ada"


@pytest.mark.parametrize(
    "follow",
    [
        lambda channels: AuditClient.over(channels, TARGET, ClientOptions()).export(),
        lambda channels: EmergencyClient.over(channels, TARGET, ClientOptions()).watch("stop-1", 1.0),
    ],
    ids=["audit", "emergency"],
)
async def test_a_refused_stream_raises_an_error_of_the_tree(follow: Callable[[Any], AsyncIterator[object]]) -> None:
    with pytest.raises(Unauthenticated):
        async for _ in follow(AnsweringChannels()):
            pass
