"""The real gateway over real stores, without gRPC and without background loops: a test plays agents and events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any

from distributor.dispatch.agent_registry import AgentRegistry, AttachedAgent
from distributor.dispatch.agent_reports import AgentReports
from distributor.dispatch.output_holds import OutputHolds
from distributor.dispatch.wakeups import Wakeups
from distributor.errors import DistributorError, ResourceExhausted
from distributor.model.delivery import OutputChunk, OutputPiece, OutputRefusal
from distributor.model.retry_policy import RetryPolicy
from distributor.observability.metrics import Metrics
from distributor.rpc.agent_gateway import AgentGateway
from distributor.store.output_log import ValkeyOutputLog
from distributor.v1 import agent_gateway_pb2 as pb
from tests.support.running_server import quick_settings
from tests.support.scripted_context import ScriptedContext
from tests.support.store_world import StoreWorld
from tests.support.waiting import until

FOREVER_SECONDS = 1e6
ANSWER_SECONDS = 1.0
"""For an answer that is under way. Short, as a property test that fails waits this long many times."""


class FullableLog:
    """The output log of a store that can be full."""

    def __init__(self, log: ValkeyOutputLog) -> None:
        self.full = False
        self._log = log

    async def append(self, pieces: Sequence[OutputPiece]) -> list[int | OutputRefusal]:
        if self.full:
            raise ResourceExhausted("Valkey has no memory left", reason="STORE_FULL")
        return await self._log.append(pieces)

    async def read(self, command_id: str, offset: int, max_bytes: int) -> list[OutputChunk]:
        return await self._log.read(command_id, offset, max_bytes)

    async def base(self, command_id: str) -> int:
        return await self._log.base(command_id)


class SettlingContext(ScriptedContext):
    """Knows when everything that was said has been handled."""

    def __init__(self) -> None:
        super().__init__()
        self.settled = asyncio.Event()

    def say(self, request: pb.ConnectRequest) -> None:
        self.settled.clear()
        super().say(request)

    async def read(self) -> Any:
        if not self.unread:
            self.settled.set()
        return await super().read()


class MemoryStream:
    """One stream of an agent, from its Hello on. `error` is how the server ended it, None if it did not."""

    def __init__(self, gateway: AgentGateway, hello: pb.Hello) -> None:
        self.error: DistributorError | None = None
        self.context = SettlingContext()
        self.context.say(pb.ConnectRequest(hello=hello))
        self._serving = asyncio.create_task(self._serve(gateway))

    async def _serve(self, gateway: AgentGateway) -> None:
        try:
            await gateway.Connect(None, self.context)
        except DistributorError as error:
            self.error = error

    async def say(self, request: pb.ConnectRequest) -> bool:
        """Send a message and wait until it is handled; return False if the server has ended the stream for it."""
        self.context.say(request)
        return await self.open()

    async def open(self) -> bool:
        """Whether the stream is open once everything said is handled."""
        settled = asyncio.create_task(self.context.settled.wait())
        await asyncio.wait({settled, self._serving}, return_when=asyncio.FIRST_COMPLETED)
        settled.cancel()
        return not self._serving.done()

    async def cut(self) -> None:
        """End the stream, and wait until the server has cleaned up."""
        self.context.half_close()
        await self.ended()

    async def answered(self) -> None:
        """Wait until the server has welcomed the agent or ended the stream."""
        await until(lambda: self.context.written or self._serving.done())

    async def abandon(self) -> None:
        """Have the server's side end without being told why, as if its process had been killed."""
        self._serving.cancel()
        await asyncio.wait([self._serving])

    async def ended(self) -> None:
        """Wait until the server has cleaned up."""
        await self._serving

    def heard(self, part: str) -> list[Any]:
        """All parts of this kind that arrived, in order."""
        return [one for message in self.context.written for one in getattr(message, part)]

    async def hears(self, part: str, count: int) -> list[Any]:
        """The same, once there are as many as `count`, or no more come although everything said is handled."""
        with suppress(TimeoutError):
            async with asyncio.timeout(ANSWER_SECONDS):
                await until(lambda: len(self.heard(part)) >= count)
        return self.heard(part)

    async def welcomed(self) -> None:
        """Wait for the Welcome."""
        await until(lambda: self.context.written)

    async def receives(self, count: int) -> None:
        """Wait until as many commands as `count` came."""
        await until(lambda: len(self.assignments) >= count)

    @property
    def welcome(self) -> pb.Welcome:
        return self.context.written[0].welcome

    @property
    def assignments(self) -> list[pb.Assignment]:
        return [one for message in self.context.written for one in message.commands.assignments]


class GatewayWorld:
    """A replica whose readers of output never read beyond `slack_bytes`, and whose window is `window_bytes`."""

    def __init__(self, world: StoreWorld, window_bytes: int, slack_bytes: int, retry: RetryPolicy) -> None:
        self.world = world
        self.output = FullableLog(world.output)
        self.registry = AgentRegistry(Metrics())
        self.holds = OutputHolds(self.registry, slack_bytes, FOREVER_SECONDS)
        wakeups = Wakeups()
        # Smaller than a setting may be, so that little output suffices.
        settings = quick_settings("valkey://unused").model_copy(update={"output_kept_bytes": 2 * window_bytes})
        self.reports = AgentReports(world.store, self.output, wakeups, retry, settings.max_result_bytes, self.holds)
        self.gateway = AgentGateway(world.store, world.sessions, self.reports, self.registry, wakeups, settings)

    def attached(self, agent_id: str) -> AttachedAgent:
        """The attached agent of this id."""
        agent = self.registry.get(agent_id)
        assert agent is not None
        return agent

    async def settle(self, agent_id: str) -> None:
        """Have the receipts stored that wait for a result."""
        agent = self.registry.get(agent_id)
        if agent is not None:
            await self.reports.settle(agent.session)

    async def cancel(self, agent_id: str, command_id: str, reason: str) -> None:
        """What the event of a cancel leads to."""
        self.attached(agent_id).cancel(command_id, reason)

    async def lose(self, agent_id: str, attempt: tuple[str, int], reason: str, ended: bool) -> str | None:
        """What the event of an attempt, (command id, number), that a deadline took away leads to; its lease."""
        agent = self.attached(agent_id)
        lease_id = agent.session.lost(*attempt)
        if lease_id is not None:
            agent.withdraw(attempt[0], lease_id, reason, stop=ended)
        return lease_id


Run = Callable[[Awaitable[Any]], Any]
