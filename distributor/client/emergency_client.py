"""Stops and resumes agents in an emergency."""

from __future__ import annotations

import secrets
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING

from distributor.client.service_client import ServiceClient
from distributor.model.command import Reason
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import AgentHalt, HaltStatus, StillRunning
from distributor.model.stop_scope import StopScope
from distributor.v1 import emergency_pb2
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from distributor.wire.enums import HALT_STATUS_FROM_WIRE
from distributor.wire.times import bounded_ms

if TYPE_CHECKING:
    import grpc

    from distributor.v1.emergency_pb2_grpc import EmergencyServiceAsyncStub


class EmergencyClient(ServiceClient["EmergencyServiceAsyncStub"]):
    """For administrators."""

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
        with self._server_errors():
            async for response in self._stub.WatchStop(request):
                yield [_agent(agent) for agent in response.agents], response.complete

    def _make_stub(self, channel: grpc.aio.Channel) -> EmergencyServiceAsyncStub:
        return EmergencyServiceStub(channel)


def _stop(message: emergency_pb2.EmergencyStop) -> EmergencyStop:
    scope = StopScope(message.scope.all, tuple(message.scope.selectors))
    return EmergencyStop(message.stop_id, scope, message.reason, message.stopped_by, bounded_ms(message.stop_time))


def _agent(message: emergency_pb2.AgentHalt) -> AgentHalt:
    return AgentHalt(
        message.agent_id,
        HALT_STATUS_FROM_WIRE.get(message.status, HaltStatus.STOPPING),
        Reason(message.reason.code, message.reason.message),
        tuple(StillRunning(one.command_id, one.survivors) for one in message.running),
        bounded_ms(message.orphan_time) if message.HasField("orphan_time") else 0,
    )
