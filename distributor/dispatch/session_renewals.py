"""Stores agents' heartbeats together, and again while Valkey is away; answers each once it is stored."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple, Protocol

from distributor.dispatch.ports import SessionStore
from distributor.errors import DistributorError
from distributor.model.agent import Renewal
from distributor.model.agent_session import AgentSession
from distributor.model.agent_vitals import AgentVitals, same_signs
from distributor.observability.outage import Outage

GATHER_SECONDS: Final = 0.02
"""How long a heartbeat waits for others: far less than what freshness allows, and it saves most calls."""
FIRST_RETRY_SECONDS: Final = 0.1
MAX_RETRY_SECONDS: Final = 1.0


class RenewedStream(Protocol):
    """A stream whose heartbeat is stored."""

    @property
    def session(self) -> AgentSession:
        """Its session."""

    def renewed(self, sequence: int) -> None:
        """Heartbeat `sequence`, and all before it, are stored."""

    def outdated(self) -> None:
        """A newer session of the agent exists."""


class _Heartbeat(NamedTuple):
    """The latest of a stream."""

    sequence: int
    vitals: AgentVitals
    signs: Mapping[str, float] | None


class SessionRenewals:
    """One per replica, on its event loop. Holds one heartbeat for each open stream at most: the latest."""

    def __init__(self, sessions: SessionStore, gather_seconds: float = GATHER_SECONDS) -> None:
        self._sessions = sessions
        self._gather_seconds = gather_seconds
        self._waiting: dict[RenewedStream, _Heartbeat] = {}
        self._under_way: dict[RenewedStream, _Heartbeat] = {}
        """Being stored, without streams that have ended since."""
        self._timer: asyncio.TimerHandle | None = None
        self._storing: asyncio.Task[None] | None = None
        self._retry_seconds = FIRST_RETRY_SECONDS
        self._outage = Outage("renew sessions")

    def renew(
        self, stream: RenewedStream, sequence: int, vitals: AgentVitals, signs: Mapping[str, float] | None = None
    ) -> None:
        """Store a heartbeat soon; its vitals, and the last `signs` of life of silent commands, if they changed.

        `signs` are milliseconds of the monotonic clock, None if the heartbeat says nothing about them.
        The stream hears when it is stored, which may take as long as Valkey is away.
        """
        self._waiting[stream] = _Heartbeat(sequence, vitals, signs)
        self._schedule(self._gather_seconds)

    def forget(self, stream: RenewedStream) -> None:
        """The stream has ended."""
        self._waiting.pop(stream, None)
        self._under_way.pop(stream, None)

    def _schedule(self, seconds: float) -> None:
        if self._timer is None and self._storing is None:
            self._timer = asyncio.get_running_loop().call_later(seconds, self._start)

    def _start(self) -> None:
        self._timer = None
        if self._waiting:
            self._under_way, self._waiting = self._waiting, {}
            self._storing = asyncio.create_task(self._store(list(self._under_way.items())), name="renew sessions")
            self._storing.add_done_callback(self._stored)

    def _stored(self, storing: asyncio.Task[None]) -> None:
        self._storing = None
        if self._waiting:
            self._schedule(self._gather_seconds)
        if not storing.cancelled():
            storing.result()

    async def _store(self, beats: Sequence[tuple[RenewedStream, _Heartbeat]]) -> None:
        try:
            outcomes = await self._sessions.heartbeat([_renewal(stream.session, beat) for stream, beat in beats])
        except DistributorError as error:
            self._outage.failed(error)
            # Ends with the stream, or with its agent's patience.
            self._waiting = self._under_way | self._waiting
            self._under_way = {}
            await asyncio.sleep(self._retry_seconds)
            self._retry_seconds = min(2 * self._retry_seconds, MAX_RETRY_SECONDS)
            return
        self._outage.recovered()
        self._retry_seconds = FIRST_RETRY_SECONDS
        for (stream, beat), latest in zip(beats, outcomes, strict=True):
            if stream not in self._under_way:
                continue
            if latest:
                stream.session.stored_vitals = beat.vitals
                if beat.signs is not None and not same_signs(beat.signs, stream.session.stored_signs):
                    stream.session.stored_signs = beat.signs
                stream.renewed(beat.sequence)
            else:
                stream.outdated()


def _renewal(session: AgentSession, beat: _Heartbeat) -> Renewal:
    vitals = None if beat.vitals == session.stored_vitals else beat.vitals
    silences = None
    if beat.signs is not None and not same_signs(beat.signs, session.stored_signs):
        now = time.monotonic() * 1000
        silences = {command_id: int(now - at) for command_id, at in beat.signs.items()}
    return Renewal(session.agent_id, session.epoch, vitals, silences)
