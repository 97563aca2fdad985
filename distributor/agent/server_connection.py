"""Keeps the agent connected, one stream at a time, with backoff after failures."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Final, NamedTuple

import grpc
from grpc import aio

from distributor.agent.actions import Action
from distributor.agent.current_session import CurrentSession
from distributor.agent.gateway_stream import EndKind, GatewayStream, StreamEnd
from distributor.agent.reconnect_backoff import ReconnectBackoff, StreamOutcome
from distributor.agent.session_state import SessionState
from distributor.errors import InvalidArgument
from distributor.observability.logging import get_logger
from distributor.v1.agent_gateway_pb2_grpc import AgentGatewayServiceStub
from distributor.wire.message_packer import PLAIN
from distributor.wire.proxies import proxy_note
from distributor.wire.transport import cause_of, channel_options

logger = get_logger()

CONNECT_SECONDS: Final = 20.0
_ANY_CALL: Final = "/grpc.health.v1.Health/Check"
"""Harmless if the channel has connected after all."""
_OBSTACLE_SECONDS: Final = 1.0

DRAINING: Final = "DRAINING"
"""The error reason of a server that is shutting down."""

# Each attempt has its own channel and connection state, so that only this backoff applies.
_OWN_CONNECTION: Final = ("grpc.use_local_subchannel_pool", 1)


class Plan(NamedTuple):
    """What to do after an opened stream: leave for good, or reconnect after `delay` seconds.

    If `delay` is None, the backoff decides.
    """

    leave: bool = False
    delay: float | None = None


class ServerConnection:
    """Opens one stream after another until the agent leaves. Owns the current channel.

    `open_session` creates the state of each new stream, `act` performs its actions, and `plan` decides what follows.
    """

    def __init__(
        self,
        server: str,
        session: CurrentSession,
        open_session: Callable[[], SessionState],
        act: Callable[[Action], None],
        plan: Callable[[StreamEnd], Plan],
    ) -> None:
        self._server = server
        self._session = session
        self._open_session = open_session
        self._act = act
        self._plan = plan
        self._reconnect = ReconnectBackoff(random.random)
        self._obstacle = ""
        self.packer = PLAIN
        """Compresses messages to the server, and decompresses its messages."""

    async def run(self) -> None:
        """Stay connected. Raises InvalidArgument if the server permanently refuses this agent."""
        while True:
            end = await self._attempt()
            plan = Plan()
            if end and end.welcomed:
                plan = self._plan(end)
            if plan.leave:
                return
            if plan.delay is None:
                await asyncio.sleep(self._backoff(end))
            else:
                if end and end.confirmed:
                    self._reconnect.confirm()
                await asyncio.sleep(plan.delay)

    async def _attempt(self) -> StreamEnd | None:
        async with aio.insecure_channel(
            self._server, options=[*channel_options(self._server), _OWN_CONNECTION]
        ) as channel:
            if not await _ready(channel):
                self._obstacle = await _obstacle(channel) + proxy_note(self._server)
                return None
            call = AgentGatewayServiceStub(channel).Connect()
            return await GatewayStream(call, self._open_session(), self._session, self._act, self.packer).run()

    def _backoff(self, end: StreamEnd | None) -> float:
        if end and not end.welcomed and end.code is grpc.StatusCode.INVALID_ARGUMENT:
            raise InvalidArgument(f"the server refuses this agent: {end.details}", reason="HELLO_REFUSED")
        delay = self._reconnect.delay(_outcome(end))
        if end and end.code is grpc.StatusCode.ALREADY_EXISTS and end.retry_after is not None:
            # The server knows when the silent session expires; waiting longer is pointless.
            delay = min(delay, end.retry_after)
        status = {"code": end.code.name, "details": end.details} if end else {"error": self._obstacle}
        logger.warning(_failure(end), server=self._server, retry_in_seconds=round(delay, 1), **status)
        return delay


def _outcome(end: StreamEnd | None) -> StreamOutcome:
    if end is None:
        return StreamOutcome.FAILED
    if end.reason == DRAINING:
        return StreamOutcome.BY_DESIGN
    return StreamOutcome.CONFIRMED if end.confirmed else StreamOutcome.FAILED


def _failure(end: StreamEnd | None) -> str:
    if end is None:
        return "the server cannot be reached"
    if end.kind is EndKind.SILENT:
        return "the server has gone silent, the stream was dropped"
    if end.code is grpc.StatusCode.ALREADY_EXISTS:
        return "another live agent has this agent id"
    return "the stream ended" if end.welcomed else "the server refused the agent"


async def _obstacle(channel: aio.Channel) -> str:
    """Why `channel` does not connect. Its state does not say, but a call fails with the cause."""
    call: aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(_ANY_CALL)
    try:
        await call(b"", timeout=_OBSTACLE_SECONDS)
    except aio.AioRpcError as failure:
        if failure.code() is grpc.StatusCode.DEADLINE_EXCEEDED:
            return f"no answer within {CONNECT_SECONDS:g} s"
        return cause_of(failure.details() or "")
    return ""


async def _ready(channel: aio.Channel) -> bool:
    """Wait for the channel to connect; return False if it fails or takes too long."""
    try:
        async with asyncio.timeout(CONNECT_SECONDS):
            state = channel.get_state(try_to_connect=True)
            while state is not grpc.ChannelConnectivity.READY:
                if state in (grpc.ChannelConnectivity.TRANSIENT_FAILURE, grpc.ChannelConnectivity.SHUTDOWN):
                    return False
                await channel.wait_for_state_change(state)
                state = channel.get_state(try_to_connect=True)
    except TimeoutError:
        return False
    return True
