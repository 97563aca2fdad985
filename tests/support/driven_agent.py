"""An agent that a test drives by command id: start a command, print output, finish it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Final

from google.protobuf import json_format, struct_pb2

from distributor.v1 import agent_gateway_pb2 as pb
from distributor.v1 import command_pb2
from tests.support.wire_agent import WireAgent, running, wire_agent

MOST_AT_ONCE: Final = 1_000
REPORT_OF: Final = 20
PIECE_BYTES: Final = 65_536


class DrivenAgent:
    """Takes whatever is queued for it, and does nothing with it until the test says so."""

    def __init__(self, wire: WireAgent) -> None:
        self.wire = wire
        self._offsets: dict[str, int] = {}
        self._resumed: dict[str, pb.Assignment] = {}
        self._runs: list[asyncio.Task[None]] = []

    async def next_id(self, place: int = 0) -> str:
        """The id of the first command that came, or of the one at another place."""
        return (await self.wire.assigned(place + 1))[place].command.command_id

    async def assignment(self, command_id: str) -> pb.Assignment:
        """The command, once it came."""
        return self._resumed.get(command_id) or await self.wire.next_assignment(command_id)

    def resume(self, assignment: pb.Assignment, output_offset: int) -> None:
        """Go on with a command of a session before this one, which Hello has named."""
        command_id = assignment.command.command_id
        self._resumed[command_id] = assignment
        self._offsets[command_id] = output_offset

    async def take_no_more(self) -> None:
        """Stay connected, and be given nothing from now on."""
        await self.wire.heartbeat(credit=0, running=MOST_AT_ONCE)

    async def take_more(self) -> None:
        """Be given commands again."""
        await self.wire.heartbeat(credit=MOST_AT_ONCE)

    async def start(self, command_id: str) -> None:
        """Report it as started, and return once the server has taken notice."""
        await self.wire.start(await self.assignment(command_id))
        await self.wire.heartbeat(credit=MOST_AT_ONCE - 1, running=1)

    async def print(self, command_id: str, data: bytes, stderr: bool = False) -> None:
        """Write output, and return once it is kept."""
        assignment = await self.assignment(command_id)
        for first in range(0, len(data), PIECE_BYTES):
            piece = data[first : first + PIECE_BYTES]
            offset = self._offsets.get(command_id, 0)
            await self.wire.print(assignment, piece, offset, stderr)
            self._offsets[command_id] = offset + len(piece)

    async def finish(
        self,
        command_id: str,
        status: command_pb2.CommandStatus.ValueType = command_pb2.COMMAND_STATUS_COMPLETED,
        reason: str = "",
        **fields: Any,
    ) -> None:
        """Report how it ended, and return once that is stored. `data` is the result's, as plain values."""
        assignment = await self.assignment(command_id)
        if reason:
            fields["reason"] = command_pb2.Reason(code=reason, message=reason.replace("_", " "))
        if "data" in fields:
            fields["data"] = json_format.ParseDict(fields["data"], struct_pb2.Value())
        fields["output_bytes"] = self._offsets.get(command_id, 0)
        await self.wire.finish(assignment, status=status, **fields)

    async def finish_all(self, command_ids: list[str]) -> None:
        """Complete many, a few in each message."""
        wanted, came = set(command_ids), dict[str, pb.Assignment]()
        while not wanted <= came.keys():
            await self.wire.assigned(len(came) + 1)
            came = {one.command.command_id: one for one in self.wire.assignments}
        for first in range(0, len(command_ids), REPORT_OF):
            await self.wire.finish(*(came[one] for one in command_ids[first : first + REPORT_OF]))

    def each(self, run: Callable[[str], Awaitable[None]]) -> None:
        """From now on, `run` every command that comes, by its id, one after the other."""
        self._runs.append(asyncio.create_task(self._run_each(run, len(self.wire.assignments))))

    def finish_each(self, *outcome: Any, output: bytes = b"", **how: Any) -> None:
        """From now on, every command starts, prints `output`, and ends as `finish` does with these arguments."""

        async def run(command_id: str) -> None:
            await self.start(command_id)
            if output:
                await self.print(command_id, output)
            await self.finish(command_id, *outcome, **how)

        self.each(run)

    async def stop(self) -> None:
        """End what `each` began. Raises what one of its runs failed with."""
        for task in self._runs:
            task.cancel()
        for ended in await asyncio.gather(*self._runs, return_exceptions=True):
            if isinstance(ended, Exception):
                raise ended

    async def _run_each(self, run: Callable[[str], Awaitable[None]], done: int) -> None:
        while True:
            await self._came(done + 1)
            await run(self.wire.assignments[done].command.command_id)
            done += 1

    async def _came(self, count: int) -> None:
        """Unbounded, unlike what tests wait for: nothing need ever come. `stop` ends it."""
        while len(self.wire.assignments) < count and self.wire.code is None:
            await self.wire.heard()


@asynccontextmanager
async def driven_agent(address: str, agent_id: str = "a1", **hello: Any) -> AsyncIterator[DrivenAgent]:
    """Attach one that has room for everything; its stream is cut at the end."""
    async with wire_agent(address, agent_id, **{"capacity": MOST_AT_ONCE, "types": []} | hello) as wire:
        agent = DrivenAgent(wire)
        try:
            yield agent
        finally:
            await agent.stop()


@asynccontextmanager
async def resumed_agent(address: str, assignment: pb.Assignment, output_offset: int) -> AsyncIterator[DrivenAgent]:
    """Attach one that runs a command since a session before this one, with so much output acknowledged."""
    named = running(assignment, output_offset)
    async with driven_agent(address, assignment.command.agent_id, running=[named]) as agent:
        agent.resume(assignment, output_offset)
        yield agent
