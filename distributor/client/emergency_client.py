"""Stops and resumes agents in an emergency."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, cast

import grpc

from distributor.client.delegated_channels import DelegatedChannels
from distributor.client.options import ClientOptions
from distributor.client.server_channels import ServerChannels
from distributor.client.status import error_of
from distributor.client.unary_calls import UnaryCalls
from distributor.model.command import Reason
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import AgentHalt, HaltStatus, StillRunning
from distributor.model.stop_scope import StopScope
from distributor.v1 import emergency_pb2
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from distributor.wire.credentials import Connector
from distributor.wire.enums import HALT_STATUS_FROM_WIRE

if TYPE_CHECKING:
    from distributor.v1.emergency_pb2_grpc import EmergencyServiceAsyncStub


class EmergencyClient:
    """For administrators. `async with` opens the connection. Calls raise errors of `distributor.errors`."""

    def __init__(self, target: str, options: ClientOptions | None = None) -> None:
        """`target` is as for CommandClient."""
        self.target = target
        options = options or ClientOptions()
        self._calls = UnaryCalls(target, options)
        self._channels = ServerChannels(target, Connector(options.credentials))
        self._opened: EmergencyServiceAsyncStub | None = None

    @classmethod
    def over(cls, channels: ServerChannels | DelegatedChannels, target: str, options: ClientOptions) -> Self:
        """A client on the open channels of another, which closes them."""
        client = cls(target, options)
        client._open(channels)
        return client

    async def __aenter__(self) -> Self:
        await self._channels.open()
        self._open(self._channels)
        return self

    def _open(self, channels: ServerChannels | DelegatedChannels) -> None:
        stub: EmergencyServiceAsyncStub = EmergencyServiceStub(cast("grpc.aio.Channel", channels))
        self._opened = stub

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._opened = None
        await self._channels.close()

    async def stop(self, scope: StopScope, reason: str = "") -> EmergencyStop:
        """Put a stop in force. When this returns, nothing is queued for the agents in scope or given to them."""
        request = emergency_pb2.StopRequest(reason=reason, stop_id=f"stop-{secrets.token_hex(4)}")
        request.scope.all = scope.all
        request.scope.selectors.extend(scope.selectors)
        return _stop((await self._calls.call(self._stub.Stop, request)).stop)

    async def resume(
        self, stop_id: str = "", selectors: Sequence[str] = (), all_stops: bool = False
    ) -> list[EmergencyStop]:
        """End the stop with this id, those with exactly these selectors, or all; return those that were in force."""
        request = emergency_pb2.ResumeRequest(stop_id=stop_id, selectors=selectors, all=all_stops)
        return [_stop(stop) for stop in (await self._calls.call(self._stub.Resume, request)).stops]

    async def stops(self) -> list[EmergencyStop]:
        """The stops in force, oldest first."""
        response = await self._calls.call(self._stub.ListStops, emergency_pb2.ListStopsRequest())
        return [_stop(stop) for stop in response.stops]

    async def watch(self, stop_id: str, seconds: float) -> AsyncGenerator[tuple[list[AgentHalt], bool], None]:
        """Yield what is known of each agent in scope, then changes, until each has answered or the time has passed.

        Each item has agents, and whether the first report is complete.
        """
        request = emergency_pb2.WatchStopRequest(stop_id=stop_id)
        request.timeout.FromMilliseconds(round(seconds * 1000))
        try:
            async for response in self._stub.WatchStop(request):
                yield [_agent(agent) for agent in response.agents], response.complete
        except grpc.aio.AioRpcError as failure:
            raise error_of(failure, self.target) from failure

    @property
    def _stub(self) -> EmergencyServiceAsyncStub:
        if self._opened is None:
            raise RuntimeError("the client is not open; use it in an `async with` block")
        return self._opened


def _stop(message: emergency_pb2.EmergencyStop) -> EmergencyStop:
    scope = StopScope(message.scope.all, tuple(message.scope.selectors))
    return EmergencyStop(message.stop_id, scope, message.reason, message.stopped_by, message.stop_time.ToMilliseconds())


def _agent(message: emergency_pb2.AgentHalt) -> AgentHalt:
    return AgentHalt(
        message.agent_id,
        HALT_STATUS_FROM_WIRE.get(message.status, HaltStatus.STOPPING),
        Reason(message.reason.code, message.reason.message),
        tuple(StillRunning(one.command_id, one.survivors) for one in message.running),
        message.orphan_time.ToMilliseconds() if message.HasField("orphan_time") else 0,
    )
