"""Keeps the agent connected, one stream at a time, with backoff after failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import Final, NamedTuple

import grpc

from distributor.agent.actions import Action
from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import EndKind, GatewayStream, StreamEnd, now
from distributor.agent.reconnect_backoff import ReconnectBackoff, StreamOutcome
from distributor.agent.server_addresses import ServerAddresses
from distributor.agent.server_channel import CONNECT_SECONDS, ServerChannel
from distributor.agent.server_search import TRY_SECONDS, another_server
from distributor.agent.session_state import SessionState
from distributor.agent.vetting import Vetting
from distributor.errors import InvalidArgument
from distributor.observability.logging import get_logger
from distributor.tasks import stop_tasks
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.wire.credentials import Connector
from distributor.wire.message_packer import PLAIN

logger = get_logger()

DRAINING: Final = "DRAINING"
"""The error reason of a server that is shutting down."""
CREDENTIALS_EXPIRED: Final = "CREDENTIALS_EXPIRED"
"""The error reason of a server that ends a stream with its certificate or token."""
RESTART_SECONDS: Final = 30.0
"""How long a server that announced its shutdown is expected to need until it, or another, is reachable."""

STEADY_SECONDS: Final = 10.0
"""After so long since the previous attempt ended, the loss of a working stream is a single event."""


class Plan(NamedTuple):
    """What to do after an opened stream: leave for good, or reconnect."""

    leave: bool = False


class ServerConnection:
    """Opens one stream after another until the agent leaves. Owns the current channel.

    `open_session` creates the state of each new stream, `act` performs its actions, and `plan` decides what follows.
    """

    def __init__(
        self,
        addresses: ServerAddresses,
        session: CurrentSession,
        open_session: Callable[[], SessionState],
        act: Callable[[Action], None],
        plan: Callable[[StreamEnd], Plan],
    ) -> None:
        self._addresses = addresses
        self._session = session
        self._open_session = open_session
        self._act = act
        self._plan = plan
        self._reconnect = ReconnectBackoff(random.random)
        self._obstacle = ""
        self._search: asyncio.Task[ServerChannel] | None = None
        """Runs while the server drains."""
        self._restart_until = 0.0
        self._ended_at = -STEADY_SECONDS
        """When the latest attempt ended."""
        self.connector = Connector()
        """Opens the connections, with the agent's credentials."""
        self.prepare: Callable[[], Awaitable[None]] = _ready
        """Called before each attempt to connect."""
        self.packer = PLAIN
        """Compresses messages to the server, and decompresses its messages."""
        self.vetting: Vetting | None = None
        """Vets commands; None if the host has no policy for commands."""

    @property
    def server(self) -> str:
        """The address in use, or to be tried next."""
        return self._addresses.current

    async def run(self) -> None:
        """Stay connected. Raises InvalidArgument if the server permanently refuses this agent."""
        ready: ServerChannel | None = None
        try:
            while True:
                channel, ready = ready or await self._connected(), None
                end = await self._serve(channel) if channel is not None else None
                ready = await self._end_search()
                if end and end.welcomed and self._plan(end).leave:
                    return
                if ready is None:
                    await asyncio.sleep(self._delay(end))
                elif end and end.confirmed:
                    self._reconnect.confirm()
        finally:
            if ready is not None:
                await ready.close()
            await self._drop_search()

    def drain(self, after: float) -> None:
        """The server is about to end: after `after` seconds, look for another and move there. Until then, go on."""
        logger.info("the server drains; moving to another", server=self.server, not_before_seconds=round(after, 1))
        self._restart_until = now() + after + RESTART_SECONDS
        if self._search is None:
            self._search = asyncio.create_task(self._find(after), name="look for another server")

    async def _find(self, after: float) -> ServerChannel:
        await asyncio.sleep(after)
        channel = await another_server(self._addresses, self.connector)
        if self._session.state is not None:
            self._session.state.move()
            self._session.wakeup.set()
        return channel

    async def _end_search(self) -> ServerChannel | None:
        """The server that was found while the stream was open, if any."""
        search, self._search = self._search, None
        if search is None:
            return None
        if not search.done():
            await stop_tasks([search])
        return None if search.cancelled() else search.result()

    async def _drop_search(self) -> None:
        channel = await self._end_search()
        if channel is not None:
            await channel.close()

    async def _connected(self) -> ServerChannel | None:
        await self.prepare()
        channel = ServerChannel(self._addresses.current, self.connector)
        connects = False
        try:
            # With other servers to try, one that does not answer must not take long.
            connects = await channel.connects(CONNECT_SECONDS if len(self._addresses) == 1 else TRY_SECONDS)
            if not connects:
                self._obstacle = await channel.obstacle()
        finally:
            if not connects:
                await channel.close()
        return channel if connects else None

    async def _serve(self, channel: ServerChannel) -> StreamEnd:
        self._addresses.used(channel.address)
        try:
            call = AgentGatewayServiceStub(channel.channel).Connect(metadata=self.connector.authorization())
            stream = GatewayStream(call, self._open_session(), self._session, self._act, self.packer)
            stream.vetting = self.vetting
            return await stream.run()
        finally:
            await channel.close()

    def _delay(self, end: StreamEnd | None) -> float:
        """Seconds until the next attempt."""
        if end and not end.welcomed and end.code is grpc.StatusCode.INVALID_ARGUMENT:
            raise InvalidArgument(f"the server refuses this agent: {end.details}", reason="HELLO_REFUSED")
        server, outcome = self.server, self._outcome(end)
        ended_at, self._ended_at = self._ended_at, now()
        if end and end.confirmed and self._ended_at - ended_at >= STEADY_SECONDS:
            # Streams that end at once, one after another, must not lead from server to server without a pause.
            self._addresses.confirmed()
        self._addresses.failed()
        # Otherwise another server has not been tried yet.
        delay = self._reconnect.delay(outcome) if self._addresses.exhausted else 0.0
        if end and outcome is StreamOutcome.PACED and end.retry_after is not None:
            # The server gives each agent a time of its own.
            delay = end.retry_after if self._addresses.exhausted else 0.0
        if end and end.code is grpc.StatusCode.ALREADY_EXISTS and end.retry_after is not None:
            # The server knows when the silent session expires; waiting longer is pointless.
            delay = min(delay, end.retry_after)
        status = {"code": end.code.name, "details": end.details} if end else {"error": self._obstacle}
        logger.warning(_failure(end), server=server, retry_in_seconds=round(delay, 1), **status)
        return delay

    def _outcome(self, end: StreamEnd | None) -> StreamOutcome:
        if end is not None and end.reason == DRAINING:
            self._restart_until = now() + RESTART_SECONDS
            return StreamOutcome.BY_DESIGN
        if end is not None and end.reason == CREDENTIALS_EXPIRED:
            return StreamOutcome.BY_DESIGN
        if end is not None and end.code is grpc.StatusCode.UNAVAILABLE and end.retry_after is not None:
            return StreamOutcome.PACED
        if end is None:
            return StreamOutcome.BY_DESIGN if now() < self._restart_until else StreamOutcome.FAILED
        return StreamOutcome.CONFIRMED if end.confirmed else StreamOutcome.FAILED


async def _ready() -> None:
    """Nothing is to be done before connecting."""


def _failure(end: StreamEnd | None) -> str:
    if end is None:
        return "the server cannot be reached"
    if end.kind is EndKind.SILENT:
        return "the server has gone silent, the stream was dropped"
    if end.code is grpc.StatusCode.ALREADY_EXISTS:
        return "another live agent has this agent id"
    return "the stream ended" if end.welcomed else "the server refused the agent"
