"""The channels of a client: to its servers, with its token on each call, replaced when its certificates change."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

import grpc
from grpc import aio

from distributor.client.server_target import server_target
from distributor.tasks import stop_tasks
from distributor.wire.credentials import Connector, Metadata, is_plain_target

CHECK_SECONDS: Final = 1.0
"""How often the certificate files are looked at."""
CONNECT_MS: Final = 2_000
"""How long one of several servers may take to connect before another is tried."""
_REPLACED_SECONDS: Final = 86_400.0
"""How long calls on a replaced channel may go on."""

Callables = Callable[..., Any]


class ServerChannels:
    """Behaves like one channel to `target`, "host:port" or several of them separated by commas.

    In plain text, one gRPC channel has the addresses of all servers. Over TLS, each server has a channel of its own,
    because gRPC checks one name per channel, and a call uses the first server that is not known to be unreachable.
    When certificate files change, new calls use new channels, and calls under way go on. Open and close it on one loop.
    """

    def __init__(self, target: str, connector: Connector) -> None:
        self._target = target
        self._connector = connector
        self._channels: list[aio.Channel] = []
        self._addresses: list[str] = []
        self._certificates: object = None
        self._check_at = 0.0
        self._closing: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Make the channels; they connect when used. Raises Unavailable and ConfigurationError."""
        if self._connector.uses_tls(self._target):
            self._addresses = [part.strip() for part in self._target.split(",") if part.strip()]
            self._certificates = self._connector.files.current()
        else:
            self._addresses = [await server_target(self._target)]
        self._channels = self._made()

    async def close(self) -> None:
        """Close all channels."""
        await stop_tasks(self._closing)
        for channel in self._channels:
            await channel.close()
        self._channels = []

    def unary_unary(self, method: str, **options: Any) -> Callables:
        """A method with one request and one response."""
        return _Method(self, lambda channel: channel.unary_unary(method, **options))

    def unary_stream(self, method: str, **options: Any) -> Callables:
        """A method with one request and many responses."""
        return _Method(self, lambda channel: channel.unary_stream(method, **options))

    @property
    def confidential(self) -> bool:
        """Whether a token may be sent: over TLS, or without leaving this host."""
        return self._connector.uses_tls(self._target) or is_plain_target(self._target)

    def current(self) -> tuple[aio.Channel, Metadata]:
        """The channel for the next call, and the metadata that authenticates it."""
        if self._certificates is not None and time.monotonic() >= self._check_at:
            self._check_at = time.monotonic() + CHECK_SECONDS
            self._renew()
        if len(self._channels) > 1:
            self._turn_from_unreachable()
        return self._channels[0], self._connector.authorization()

    def _made(self) -> list[aio.Channel]:
        # Despite its name, the limit of an attempt to connect, TLS handshake included.
        options = [("grpc.min_reconnect_backoff_ms", CONNECT_MS)] if len(self._addresses) > 1 else []
        return [self._connector.channel(address, options) for address in self._addresses]

    def _turn_from_unreachable(self) -> None:
        for _ in self._channels:
            if self._channels[0].get_state() is not grpc.ChannelConnectivity.TRANSIENT_FAILURE:
                return
            self._channels.append(self._channels.pop(0))
            self._addresses.append(self._addresses.pop(0))

    def _renew(self) -> None:
        certificates = self._connector.files.current()
        if certificates == self._certificates:
            return
        replaced, self._certificates = self._channels, certificates
        self._channels = self._made()
        for channel in replaced:
            task = asyncio.create_task(channel.close(_REPLACED_SECONDS), name="close a replaced channel")
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Method:
    """A method on whichever channel is current. Keeps the callable of the latest one."""

    def __init__(self, channels: ServerChannels, make: Callable[[aio.Channel], Callables]) -> None:
        self._channels = channels
        self._make = make
        self._made: tuple[aio.Channel, Callables] | None = None

    def __call__(self, request: Any, *, timeout: float | None = None, metadata: Metadata = ()) -> Any:
        channel, own = self._channels.current()
        if self._made is None or self._made[0] is not channel:
            self._made = (channel, self._make(channel))
        return self._made[1](request, timeout=timeout, metadata=(*own, *metadata))
