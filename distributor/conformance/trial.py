"""What a scenario acts on: the agent under test, its sessions, and commands for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from distributor.conformance.agent_sessions import AgentSessions
from distributor.conformance.message_text import texts
from distributor.conformance.messages import CONFORMANCE, assignment
from distributor.conformance.unmet import Unmet
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

MESSAGE_COMMANDS: Final = 20
"""Maximum number of commands in a message."""
QUIET_SECONDS: Final = 0.3
"""How long to listen for something that must not come."""

COMPLETED: Final = command_pb2.COMMAND_STATUS_COMPLETED
FAILED: Final = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT: Final = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED: Final = command_pb2.COMMAND_STATUS_CANCELLED


class Trial(AgentSessions):
    """One scenario's view of the agent: sends commands, waits for what it says about them, and checks that."""

    def command(self, command_type: str = CONFORMANCE, **params: Any) -> gateway.Assignment:
        """A new command; `params` are those that docs/agents.md names for CONFORMANCE, and the limits."""
        command_id = str(uuid.uuid4())
        self._ids.add(command_id)
        if self._agent is not None and command_type == CONFORMANCE:
            params["mark"] = str(self._marks)
        made = assignment(command_id, command_type, **params)
        made.command.agent_id = self.current.hello.agent_id
        made.lease_id = uuid.uuid4().hex
        return made

    @property
    def _marks(self) -> Path:
        return self._folder / "starts"

    def sleepers(self, count: int) -> list[gateway.Assignment]:
        """Commands that run until they are cancelled."""
        return [self.command(seconds=600) for _ in range(count)]

    @staticmethod
    def again(assigned: gateway.Assignment) -> gateway.Assignment:
        """The next attempt of a command, under another lease."""
        return gateway.Assignment(command=assigned.command, attempt=assigned.attempt + 1, lease_id=uuid.uuid4().hex)

    async def give(self, *assigned: gateway.Assignment) -> None:
        """Send commands as fresh as can be, at most 20 in a message."""
        for first in range(0, len(assigned), MESSAGE_COMMANDS):
            few = assigned[first : first + MESSAGE_COMMANDS]
            await self.current.command(*few, after_heartbeat=self.current.answered_heartbeat)

    async def run(self, assigned: gateway.Assignment) -> gateway.Result:
        """Send a command and return its result."""
        await self.give(assigned)
        return await self.result(assigned)

    async def run_when_fresh(self, assigned: gateway.Assignment) -> gateway.Result:
        """Send a command, again after each heartbeat while it is STALE, and return its result."""
        beat = self.current.answered_heartbeat
        await self.give(assigned)
        await self.until(lambda: self.parts("results", assigned) or self.parts("refused", assigned), "a result")
        if self.parts("results", assigned):
            return await self.result(assigned)
        self.require((await self.refused(assigned)).code == gateway.REFUSAL_CODE_STALE)
        await self.until(lambda: self.current.answered_heartbeat > beat, "another heartbeat")
        return await self.run_when_fresh(self.again(assigned))

    async def cancel(self, assigned: gateway.Assignment) -> None:
        """Ask for the end of an attempt."""
        await self.current.cancel(assigned.command.command_id, assigned.lease_id)

    async def cancelled(self, assigned: gateway.Assignment) -> gateway.Result:
        """Cancel an attempt that runs until then, and return its result. Raises Unmet if it had one before."""
        await self.quiet()
        self.require(not self.parts("results", assigned), expected="no result before the cancel")
        await self.cancel(assigned)
        result = await self.result(assigned)
        self.require(result.status == CANCELLED, expected="CANCELLED")
        return result

    async def settled(self) -> None:
        """Return once the agent has handled everything sent: it has answered a PING sent now."""
        await self.run(self.command("PING"))

    async def quiet(self) -> None:
        """Let what must not come have its chance, after everything sent is handled."""
        await self.settled()
        await asyncio.sleep(QUIET_SECONDS)

    # What the agent said about an attempt on the current stream

    def parts(self, part: str, assigned: gateway.Assignment) -> list[Any]:
        """The parts of a name about an attempt."""
        return [
            one
            for message in self.current.seen
            for one in getattr(message, part)
            if one.command_id == assigned.command.command_id and one.lease_id == assigned.lease_id
        ]

    async def part(self, part: str, assigned: gateway.Assignment) -> Any:
        """The first part of a name about an attempt, waited for."""
        await self.until(lambda: self.parts(part, assigned), f"{part} under the lease of the attempt")
        return self.parts(part, assigned)[0]

    async def started(self, *assigned: gateway.Assignment) -> None:
        """Wait until the attempts are started."""
        for one in assigned:
            await self.part("started", one)

    async def result(self, assigned: gateway.Assignment) -> gateway.Result:
        """The result of an attempt, waited for."""
        result: gateway.Result = await self.part("results", assigned)
        return result

    async def refused(self, assigned: gateway.Assignment) -> gateway.Refused:
        """The refusal of an attempt, waited for."""
        refused: gateway.Refused = await self.part("refused", assigned)
        return refused

    async def heartbeat(self, wanted: Callable[[gateway.Heartbeat], object], expected: str) -> gateway.Heartbeat:
        """The first heartbeat from now on that is as wanted."""
        session, begin = self.current, len(self.current.seen)

        def beats(seen: list[gateway.ConnectRequest]) -> list[gateway.Heartbeat]:
            later = [message.heartbeat for message in seen[begin:] if message.HasField("heartbeat")]
            return [beat for beat in later if wanted(beat)]

        await session.until(beats, expected)
        return beats(session.seen)[0]

    async def heartbeats(self) -> list[gateway.Heartbeat]:
        """The heartbeats of the current stream so far, at least one, waited for."""
        session = self.current
        await session.until(lambda seen: any(message.HasField("heartbeat") for message in seen), "a heartbeat")
        return [message.heartbeat for message in session.seen if message.HasField("heartbeat")]

    async def until(self, wanted: Callable[[], object], expected: str = "") -> None:
        """Wait until `wanted` is true, looking at each message that comes."""
        await self.current.until(lambda _: wanted(), expected)

    def require(self, condition: object, came: str = "", expected: str = "") -> None:
        """Raise Unmet unless `condition` is true; `came` defaults to the latest messages."""
        if not condition:
            raise Unmet(came or texts(self.current.seen), expected)

    def started_once(self, assigned: gateway.Assignment) -> None:
        """Check that the handler was called once, by its own record; without one there is nothing to check."""
        self.require(self.starts(assigned) in (None, 1), f"{self.starts(assigned)} starts", "one start")

    def starts(self, assigned: gateway.Assignment) -> int | None:
        """How often the handler was called, by its own record; None if the kit did not start the agent."""
        if self._agent is None:
            return None
        lines = self._marks.read_text(encoding="utf-8").split() if self._marks.exists() else []
        return lines.count(assigned.command.command_id)
