"""Emergency stops as tests make and follow them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from distributor.v1 import emergency_pb2
from distributor.v1.emergency_pb2_grpc import EmergencyServiceStub
from tests.support.running_server import RunningServer
from tests.support.waiting import PATIENCE_SECONDS

if TYPE_CHECKING:
    from distributor.v1.emergency_pb2_grpc import EmergencyServiceAsyncStub

STOPPING = emergency_pb2.HALT_STATUS_STOPPING
CONFIRMED = emergency_pb2.HALT_STATUS_CONFIRMED
REFUSED = emergency_pb2.HALT_STATUS_REFUSED
UNREACHABLE = emergency_pb2.HALT_STATUS_UNREACHABLE


def emergency(server: RunningServer) -> EmergencyServiceAsyncStub:
    """The service of emergency stops."""
    stub: EmergencyServiceAsyncStub = EmergencyServiceStub(server.channel)
    return stub


async def stop(server: RunningServer, *selectors: str, **fields: Any) -> emergency_pb2.EmergencyStop:
    """Stop the selected agents, or all."""
    scope = emergency_pb2.StopScope(selectors=selectors, all=not selectors)
    request = emergency_pb2.StopRequest(scope=scope, **fields)
    response: emergency_pb2.StopResponse = await emergency(server).Stop(request)
    return response.stop


async def resume(server: RunningServer) -> list[str]:
    """End all stops; returns their ids."""
    response = await emergency(server).Resume(emergency_pb2.ResumeRequest(all=True))
    return [ended.stop_id for ended in response.stops]


async def reports(
    server: RunningServer, stop_id: str, seconds: float = PATIENCE_SECONDS
) -> dict[str, emergency_pb2.AgentHalt]:
    """What is known of each agent, once all have answered or the time has passed."""
    request = emergency_pb2.WatchStopRequest(stop_id=stop_id)
    request.timeout.FromMilliseconds(round(seconds * 1000))
    known: dict[str, emergency_pb2.AgentHalt] = {}
    async for response in emergency(server).WatchStop(request):
        known.update((agent.agent_id, agent) for agent in response.agents)
    return known
