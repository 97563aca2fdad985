"""The streams of the agent under test, one after the other, in one scenario."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path
from typing import Any, Final

from distributor.conformance.agent_process import AgentProcess
from distributor.conformance.hello_check import check_hello
from distributor.conformance.message_check import check_messages
from distributor.conformance.message_text import text
from distributor.conformance.messages import HALT_REASON, verdict
from distributor.conformance.scripted_gateway import ScriptedGateway
from distributor.conformance.scripted_session import ScriptedSession
from distributor.conformance.unmet import Unmet
from distributor.tasks import stop_tasks
from distributor.v1 import agent_gateway_pb2 as gateway

HEARTBEAT_SECONDS: Final = 1.0
MAX_BACKOFF_SECONDS: Final = 60.0


class Skipped(Exception):
    """The scenario does not apply to this agent; the text says why."""


class AgentSessions:
    """The agent, its process, and its streams. `agent` is None if the tester started it."""

    def __init__(self, served: ScriptedGateway, agent: AgentProcess | None, folder: Path) -> None:
        self.gateway = served
        self._agent = agent
        self._folder = folder
        self._sessions: list[ScriptedSession] = []
        self._ids: set[str] = set()
        self._stops: set[str] = set()

    # The agent

    @property
    def agent(self) -> AgentProcess:
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

    @property
    def current(self) -> ScriptedSession:
        """The latest session."""
        return self._sessions[-1]

    async def attached(self, *, backoff: float = 0.0) -> ScriptedSession:
        """The next stream, not welcomed yet. The agent may wait `backoff` seconds before it comes.

        Raises Unmet if none comes, at once if the agent has ended, or if it begins with something else than a Hello.
        """
        limit = self.gateway.patience + backoff
        if self._agent is None:
            # The backoff of an earlier scenario may still run.
            return self._take(await self.gateway.attached(limit + MAX_BACKOFF_SECONDS))
        coming = asyncio.create_task(self.gateway.attached(limit))
        ending = asyncio.create_task(self._agent.ended())
        try:
            await asyncio.wait({coming, ending}, return_when=asyncio.FIRST_COMPLETED)
            if coming.done():
                return self._take(coming.result())
            raise Unmet("no Hello", "a stream with a Hello")
        finally:
            await stop_tasks([coming, ending])

    async def session(self, **welcome: Any) -> ScriptedSession:
        """The next stream, welcomed. Commands of this scenario are kept, others stopped."""
        session = await self.attached()
        await self.welcome(**welcome)
        return session

    async def welcome(self, **welcome: Any) -> None:
        """Welcome the current stream. Unless `verdicts` are given, keep the commands of this scenario, stop others.

        An emergency stop that another scenario left in force is over.
        """
        session = self.current
        welcome.setdefault("verdicts", tuple(self._verdict(held) for held in held_by(session.hello)))
        welcome.setdefault("heartbeat_interval", HEARTBEAT_SECONDS)
        await session.welcome(epoch=len(self._sessions), **welcome)
        remembered = session.hello.halts.stop_id
        if remembered and remembered not in self._stops:
            await self.resume(remembered)
        if any(held.command_id not in self._ids for held in session.hello.running):
            await session.until(lambda seen: any(m.HasField("heartbeat") and not m.heartbeat.running for m in seen))

    def check(self) -> None:
        """Check every message on every stream of this scenario. Raises Unmet."""
        for session in self._sessions:
            check_messages(session.hello, session.seen)

    async def close(self) -> None:
        """Cut the current stream if it is open, refuse nothing more, and be ready for the next scenario."""
        self.gateway.refuse.clear()
        await self.gateway.set_serving(True)
        if self._sessions and not self.current.ended:
            self.current.drop()

    def new_stop(self) -> str:
        """The id of a new emergency stop of this scenario."""
        stop_id = str(uuid.uuid4())
        self._stops.add(stop_id)
        return stop_id

    async def halt(self) -> str:
        """Halt the agent on the current stream. Returns the id of the emergency stop."""
        stop_id = self.new_stop()
        await self.current.send(gateway.ConnectResponse(halt=gateway.Halt(stop_id=stop_id, reason=HALT_REASON)))
        return stop_id

    async def resume(self, stop_id: str) -> None:
        """End an emergency stop on the current stream."""
        await self.current.send(gateway.ConnectResponse(resume=gateway.Resume(stop_id=stop_id)))

    async def dropped(self) -> ScriptedSession:
        """Cut the current stream; the next, not welcomed yet."""
        self.current.drop()
        return await self.attached()

    def held(self, assigned: gateway.Assignment) -> gateway.RunningCommand:
        """What the current Hello says of an attempt in `running`. Raises Unmet if it is not all that is listed."""
        return self._listed("running", assigned)

    def kept(self, assigned: gateway.Assignment) -> gateway.RunningCommand:
        """Likewise, of an attempt in `unacknowledged`."""
        return self._listed("unacknowledged", assigned)

    def _listed(self, part: str, assigned: gateway.Assignment) -> gateway.RunningCommand:
        hello = self.current.hello
        listed = getattr(hello, part)
        wanted = [(assigned.command.command_id, assigned.lease_id)]
        if [(held.command_id, held.lease_id) for held in listed] != wanted or len(held_by(hello)) > 1:
            raise Unmet(text(self.current.opening), f"it alone in `{part}` of the Hello, under its lease")
        only: gateway.RunningCommand = listed[0]
        return only

    def _take(self, session: ScriptedSession) -> ScriptedSession:
        self._sessions.append(session)
        check_hello(session.opening)
        return session

    def _verdict(self, held: gateway.RunningCommand) -> gateway.HeldCommandVerdict:
        if held.command_id not in self._ids:
            return verdict(held.command_id, gateway.VERDICT_STOP)
        safe = max((session.safe.get(held.lease_id, 0) for session in self._sessions), default=0)
        return verdict(held.command_id, gateway.VERDICT_KEEP, safe)


def held_by(hello: gateway.Hello) -> list[gateway.RunningCommand]:
    """All commands that a Hello lists."""
    return [*hello.running, *hello.unacknowledged]
