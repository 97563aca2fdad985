"""What a scenario acts on: the gateway, the agent under test, its sessions, and commands for it."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from distributor.conformance.launched_agent import LaunchedAgent
from distributor.conformance.message_check import check_messages
from distributor.conformance.message_text import text, texts
from distributor.conformance.messages import CONFORMANCE, assignment, verdict
from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.conformance.scripted_session import ScriptedSession
from distributor.conformance.unmet import Unmet
from distributor.tasks import stop_tasks
from distributor.v1 import agent_gateway_pb2 as gateway
from distributor.v1 import command_pb2

HEARTBEAT_SECONDS: Final = 1.0
MESSAGE_COMMANDS: Final = 20
"""Maximum number of commands in a message."""
QUIET_SECONDS: Final = 0.3
"""How long to listen for something that must not come."""
MAX_BACKOFF_SECONDS: Final = 60.0

COMPLETED: Final = command_pb2.COMMAND_STATUS_COMPLETED
FAILED: Final = command_pb2.COMMAND_STATUS_FAILED
TIMEOUT: Final = command_pb2.COMMAND_STATUS_TIMEOUT
CANCELLED: Final = command_pb2.COMMAND_STATUS_CANCELLED


class Skipped(Exception):
    """The scenario does not apply to this agent; the text says why."""


class Trial:
    """One scenario's view of the agent. `agent` is None if the tester started it."""

    def __init__(self, served: ScriptedGateway, agent: LaunchedAgent | None, folder: Path) -> None:
        self.gateway = served
        self._agent = agent
        self._marks = folder / "starts"
        self._sessions: list[ScriptedSession] = []
        self._ids: set[str] = set()

    # The agent

    @property
    def agent(self) -> LaunchedAgent:
        """The agent's process. Raises Skipped if the kit did not start it."""
        if self._agent is None:
            raise Skipped("the kit did not start the agent")
        return self._agent

    async def restart(self, *, with_journal: bool = True) -> None:
        """End the agent with SIGKILL and start it again; without its journal if that is to be lost."""
        await self.agent.kill()
        if not with_journal:
            self.agent.remove_journal()
        self.agent.start()

    # Sessions

    def check(self) -> None:
        """Check every message on every stream of this scenario. Raises Unmet."""
        for session in self._sessions:
            check_messages(session.seen)

    @property
    def current(self) -> ScriptedSession:
        """The latest session."""
        return self._sessions[-1]

    async def attached(self) -> ScriptedSession:
        """The next stream, not welcomed yet. Raises Unmet if none comes, at once if the agent has ended."""
        if self._agent is None:
            # The backoff of an earlier scenario may still run.
            with suppress(Unmet):
                return self._take(await self.gateway.attached())
            async with asyncio.timeout(MAX_BACKOFF_SECONDS):
                return self._take(await self.gateway.sessions.get())
        coming = asyncio.create_task(self.gateway.attached())
        ending = asyncio.create_task(self._agent.ended())
        try:
            await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return self._take(coming.result())
            raise Unmet(f"the agent ended with {ending.result()}: {self._agent.last_line}", "a stream with a Hello")
        finally:
            await stop_tasks([coming, ending])

    async def session(self, **welcome: Any) -> ScriptedSession:
        """The next stream, welcomed. Commands of this scenario are kept, others stopped."""
        session = await self.attached()
        await self.welcome(**welcome)
        return session

    async def welcome(self, **welcome: Any) -> None:
        """Welcome the current stream. Unless `verdicts` are given, keep the commands of this scenario, stop others."""
        session = self.current
        listed = [*session.hello.running, *session.hello.unacknowledged]
        welcome.setdefault("verdicts", tuple(self._verdict(held) for held in listed))
        welcome.setdefault("heartbeat_interval", HEARTBEAT_SECONDS)
        await session.welcome(epoch=len(self._sessions), **welcome)
        if any(held.command_id not in self._ids for held in session.hello.running):
            await session.until(lambda seen: any(m.HasField("heartbeat") and not m.heartbeat.running for m in seen))

    async def close(self) -> None:
        """Cut the current stream if it is open, refuse nothing more, and be ready for the next scenario."""
        self.gateway.refuse.clear()
        await self.gateway.set_serving(True)
        if self._sessions and not self.current.ended:
            self.current.drop()

    async def dropped(self) -> ScriptedSession:
        """Cut the current stream; the next, not welcomed yet."""
        self.current.drop()
        return await self.attached()

    def held(self, assigned: gateway.Assignment) -> gateway.RunningCommand:
        """What the current Hello says of an attempt in `running`. Raises Unmet if it is not all that is listed."""
        hello = self.current.hello
        wanted = [(assigned.command.command_id, assigned.lease_id)]
        listed = [(held.command_id, held.lease_id) for held in hello.running]
        self.require(
            listed == wanted and not hello.unacknowledged,
            text(gateway.ConnectRequest(hello=hello)),
            "it in `running`, under its lease",
        )
        return hello.running[0]

    def _take(self, session: ScriptedSession) -> ScriptedSession:
        self._sessions.append(session)
        return session

    def _verdict(self, held: gateway.RunningCommand) -> gateway.HeldCommandVerdict:
        if held.command_id not in self._ids:
            return verdict(held.command_id, gateway.VERDICT_STOP)
        safe = max((session.safe.get(held.lease_id, 0) for session in self._sessions), default=0)
        return verdict(held.command_id, gateway.VERDICT_KEEP, safe)

    # Commands

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

    async def cancel(self, assigned: gateway.Assignment) -> None:
        """Ask for the end of an attempt."""
        await self.current.cancel(assigned.command.command_id, assigned.lease_id)

    async def cancelled(self, assigned: gateway.Assignment) -> gateway.Result:
        """Cancel an attempt that runs until then, and return its result. Raises Unmet if it had one before."""
        await self.settled()
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

    async def heartbeat(self, wanted: Callable[[gateway.Heartbeat], object], expected: str) -> None:
        """Wait for a heartbeat from now on that is as wanted."""
        while not wanted(await self.next_heartbeat(expected)):
            pass

    async def next_heartbeat(self, expected: str = "a heartbeat") -> gateway.Heartbeat:
        """The first heartbeat from now on."""
        session, begin = self.current, len(self.current.seen)
        await session.until(lambda seen: any(message.HasField("heartbeat") for message in seen[begin:]), expected)
        return next(message.heartbeat for message in session.seen[begin:] if message.HasField("heartbeat"))

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
