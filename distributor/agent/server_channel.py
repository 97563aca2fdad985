"""A connection to one server, and whether that server takes agents."""

from __future__ import annotations

import asyncio
from typing import Final

import grpc
from grpc import aio
from grpc_health.v1 import health_pb2

from distributor.wire.connect_faults import cause_of
from distributor.wire.credentials import Connector
from distributor.wire.proxies import proxy_note

CONNECT_SECONDS: Final = 20.0
_ANSWER_SECONDS: Final = 2.0
_HEALTH_CHECK: Final = "/grpc.health.v1.Health/Check"
_OBSTACLE_SECONDS: Final = 1.0

# Each attempt has its own channel and connection state, so that only the agent's backoff applies.
_OWN_CONNECTION: Final = ("grpc.use_local_subchannel_pool", 1)


class ServerChannel:
    """A channel to `address`. Close it when done."""

    def __init__(self, address: str, connector: Connector) -> None:
        """Raises ConfigurationError if the credentials cannot be used for `address`."""
        self.address = address
        self.channel = connector.channel(address, [_OWN_CONNECTION])

    async def connects(self, within: float = CONNECT_SECONDS) -> bool:
        """Wait for the connection; return False if it fails or takes longer than `within` seconds."""
        channel = self.channel
        try:
            async with asyncio.timeout(within):
                state = channel.get_state(try_to_connect=True)
                while state is not grpc.ChannelConnectivity.READY:
                    if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                        return False
                    await channel.wait_for_state_change(state)
                    state = channel.get_state(try_to_connect=True)
        except TimeoutError:
            return False
        return True

    async def takes_agents(self) -> bool:
        """Whether the server is connected and healthy. One without a health service is taken to be."""
        check: aio.UnaryUnaryMultiCallable[health_pb2.HealthCheckRequest, health_pb2.HealthCheckResponse]
        check = self.channel.unary_unary(
            _HEALTH_CHECK,
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        try:
            response = await check(health_pb2.HealthCheckRequest(), timeout=_ANSWER_SECONDS)
        except aio.AioRpcError as failure:
            return failure.code() in (grpc.StatusCode.UNIMPLEMENTED, grpc.StatusCode.NOT_FOUND)
        return bool(response.status == health_pb2.HealthCheckResponse.SERVING)

    async def obstacle(self) -> str:
        """Why it does not connect. The channel's state does not say, but a call fails with the cause."""
        # Harmless if the channel has connected after all.
        call: aio.UnaryUnaryMultiCallable[bytes, bytes] = self.channel.unary_unary(_HEALTH_CHECK)
        cause = ""
        try:
            await call(b"", timeout=_OBSTACLE_SECONDS)
        except aio.AioRpcError as failure:
            cause = cause_of(failure.details() or "")
            if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
                cause = "no answer in time"
        return cause + proxy_note(self.address)

    async def close(self) -> None:
        """Close the connection."""
        await self.channel.close()
