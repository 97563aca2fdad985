"""EmergencyService on the wire: convert, call the use case, convert back."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

import grpc

from distributor.dispatch.emergency_stops import EmergencyStops
from distributor.errors import PermissionDenied
from distributor.identity.caller import Caller
from distributor.rpc.current_caller import current_caller
from distributor.rpc.durations import milliseconds
from distributor.rpc.emergency_messages import fill_agent, fill_stop, stop_scope
from distributor.v1 import emergency_pb2 as pb
from distributor.v1.emergency_pb2_grpc import EmergencyServiceServicer

Context = grpc.aio.ServicerContext[Any, Any]


class EmergencyServicer(EmergencyServiceServicer):
    """One method per RPC. Raises our errors; an interceptor converts them to a status."""

    def __init__(self, stops: EmergencyStops) -> None:
        self._stops = stops

    async def Stop(self, request: pb.StopRequest, context: Context) -> pb.StopResponse:
        caller = _unrestricted()
        stop_id = request.stop_id or f"stop-{secrets.token_hex(4)}"
        stopped_by = str(caller) if caller.known else "someone"
        stop = await self._stops.stop(stop_id, stop_scope(request.scope), request.reason, stopped_by)
        response = pb.StopResponse()
        fill_stop(response.stop, stop)
        return response

    async def Resume(self, request: pb.ResumeRequest, context: Context) -> pb.ResumeResponse:
        _unrestricted()
        response = pb.ResumeResponse()
        for stop in await self._stops.resume(request.stop_id, request.selectors, request.all):
            fill_stop(response.stops.add(), stop)
        return response

    async def ListStops(self, request: pb.ListStopsRequest, context: Context) -> pb.ListStopsResponse:
        _unrestricted()
        response = pb.ListStopsResponse()
        for stop in await self._stops.stops():
            fill_stop(response.stops.add(), stop)
        return response

    async def WatchStop(self, request: pb.WatchStopRequest, context: Context) -> AsyncIterator[pb.WatchStopResponse]:
        _unrestricted()
        seconds = milliseconds("timeout", request.timeout) / 1000
        async with aclosing(self._stops.watch(request.stop_id, seconds)) as reports:
            async for agents, complete in reports:
                response = pb.WatchStopResponse(complete=complete)
                for agent in agents:
                    fill_agent(response.agents.add(), agent)
                yield response


def _unrestricted() -> Caller:
    """The caller. Raises PermissionDenied for one that may not see every agent: a stop has effects on all in scope."""
    caller = current_caller()
    if not caller.grants.everything:
        raise PermissionDenied(
            f"emergency stops are for administrators of all agents, and {caller} has grants for some only",
            reason="GRANTS_TOO_NARROW",
        )
    return caller
