"""The connection that the client of every service of the protocol opens, uses and closes in the same way."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar, cast

import grpc

from distributor.client.options import ClientOptions
from distributor.client.server_channels import Callables, ServerChannels
from distributor.client.status import error_of
from distributor.client.unary_calls import UnaryCalls
from distributor.wire.credentials import Connector

Stub = TypeVar("Stub")
Part = TypeVar("Part")


class Channels(Protocol):
    """What stubs use of a channel."""

    def unary_unary(self, method: str, **options: Any) -> Callables:
        """A method with one request and one response."""

    def unary_stream(self, method: str, **options: Any) -> Callables:
        """A method with one request and many responses."""


class ServiceClient(ABC, Generic[Stub]):
    """Makes the calls of one service over channels of its own, which `async with` opens, or over those of another.

    Any number of tasks of the event loop that opens it may share it. Calls raise errors of `distributor.errors`, and
    RuntimeError outside `async with`.
    """

    def __init__(self, target: str, options: ClientOptions | None = None) -> None:
        """`target` is "host:port", or several of them separated by commas."""
        self.target = target
        self._options = options or ClientOptions()
        self._calls = UnaryCalls(target, self._options)
        self._own_channels = ServerChannels(target, Connector(self._options.credentials))
        self._open_channels: Channels | None = None
        self._open_stub: Stub | None = None

    @classmethod
    def over(cls, channels: Channels, target: str, options: ClientOptions) -> Self:
        """Return a client over the open channels of another client, which closes them."""
        client = cls(target, options)
        client._open(channels)
        return client

    async def __aenter__(self) -> Self:
        await self._own_channels.open()
        self._open(self._own_channels)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._open_channels = self._open_stub = None
        await self._own_channels.close()

    @abstractmethod
    def _make_stub(self, channel: grpc.aio.Channel) -> Stub:
        """Make the stub of the service."""

    def _open(self, channels: Channels) -> None:
        self._open_channels = channels
        self._open_stub = self._make_stub(cast("grpc.aio.Channel", channels))

    @contextmanager
    def _server_errors(self) -> Iterator[None]:
        """Raise a failure of a stream as an error of `distributor.errors`."""
        try:
            yield
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, self.target) from failure

    @property
    def _channels(self) -> Channels:
        return opened(self._open_channels)

    @property
    def _stub(self) -> Stub:
        return opened(self._open_stub)


def opened(part: Part | None) -> Part:
    """Return a part of a client that it has only while it is open. Raises RuntimeError if it is not."""
    if part is None:
        raise RuntimeError("the client is not open; use it in an `async with` block")
    return part
