"""The use cases of emergency stops: stop, resume, list, and follow the reports of agents."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from typing import Final

from distributor.dispatch.halts import Halts
from distributor.dispatch.ports import StopStore
from distributor.dispatch.refusals import valid
from distributor.errors import InvalidArgument, NotFound
from distributor.model.emergency_stop import EmergencyStop
from distributor.model.halt import AgentHalt, HaltStatus, agent_halt
from distributor.model.stop_request import check_stop
from distributor.model.stop_scope import StopScope

LOOK_SECONDS: Final = 0.25
"""Time between two looks at agents that have not answered."""
MAX_WAIT_SECONDS: Final = 600.0


class EmergencyStops:
    """Over ports. Safe for concurrent use on one event loop."""

    def __init__(self, store: StopStore, halts: Halts) -> None:
        self._store = store
        self._halts = halts

    async def stop(self, stop_id: str, scope: StopScope, reason: str, stopped_by: str) -> EmergencyStop:
        """Put a stop in force and apply it. The same id again changes nothing.

        When this returns, nothing is queued for the agents in scope or assigned to them, those attached here have been
        sent the halt, and the end of every command that they were given is requested.
        """
        valid(check_stop, stop_id, reason)
        stop = await self._store.stop(stop_id, scope, reason, stopped_by)
        await self._halts.run_once()
        return stop

    async def resume(self, stop_id: str, selectors: Sequence[str], all_stops: bool) -> list[EmergencyStop]:
        """End the stop with this id, those with exactly these selectors, or all.

        Raises NotFound if there is none, and InvalidArgument unless exactly one of the three is given.
        """
        if (bool(stop_id), bool(selectors), all_stops).count(True) != 1:
            raise InvalidArgument("name one of stop_id, selectors and all", field="stop_id", reason="INVALID_SCOPE")
        stops = await self._store.stops()
        chosen = [
            stop
            for stop in stops
            if all_stops or stop.stop_id == stop_id or (selectors and set(selectors) == set(stop.scope.selectors))
        ]
        ended = await self._store.resume([stop.stop_id for stop in chosen]) if chosen else []
        if not ended and not all_stops:
            raise _no_such_stop(stop_id or ", ".join(selectors))
        await self._halts.run_once()
        return ended

    async def stops(self) -> list[EmergencyStop]:
        """The stops in force, oldest first."""
        return await self._store.stops()

    async def watch(self, stop_id: str, seconds: float) -> AsyncGenerator[tuple[list[AgentHalt], bool], None]:
        """Yield what is known of each agent in scope, then changes, until each has answered or the time has passed.

        Each item has agents, and whether the first report is complete. Raises NotFound.
        """
        stop = next((one for one in await self._store.stops() if one.stop_id == stop_id), None)
        if stop is None:
            raise _no_such_stop(stop_id)
        until = asyncio.get_running_loop().time() + min(seconds, MAX_WAIT_SECONDS)
        known: dict[str, AgentHalt] = {}
        async for sessions in self._store.sessions(stop.scope):
            found = [agent_halt(stop, session) for session in sessions]
            known.update((one.agent_id, one) for one in found)
            if found:
                yield found, False
        yield [], True
        while _waits(known) and asyncio.get_running_loop().time() < until:
            await asyncio.sleep(LOOK_SECONDS)
            open_ones = [agent_id for agent_id, one in known.items() if one.status is not HaltStatus.CONFIRMED]
            found = [agent_halt(stop, session) for session in await self._store.sessions_of(open_ones)]
            changed = [one for one in found if one != known[one.agent_id]]
            known.update((one.agent_id, one) for one in changed)
            if changed:
                yield changed, True


def _waits(known: dict[str, AgentHalt]) -> bool:
    return any(one.status is HaltStatus.STOPPING for one in known.values())


def _no_such_stop(what: str) -> NotFound:
    return NotFound(f"no emergency stop {what} is in force", field="stop_id", reason="UNKNOWN_STOP")
