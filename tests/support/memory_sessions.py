"""An in-memory implementation of the port for agent sessions."""

from __future__ import annotations

from collections.abc import Sequence

from distributor.dispatch.ports import SessionStore
from distributor.model.agent import AgentHello, Attached, Renewal


class MemorySessions:
    """The SessionStore port: each session that is opened is the newest."""

    def __init__(self) -> None:
        self.epoch = 0
        self.detached: list[tuple[str, int]] = []

    async def attach(self, hello: AgentHello, unanswering_epoch: int | None = None) -> Attached:
        self.epoch += 1
        return Attached(self.epoch, 1_000, {})

    async def heartbeat(self, renewals: Sequence[Renewal]) -> list[bool]:
        return [True] * len(renewals)

    async def detach(self, sessions: Sequence[tuple[str, int]]) -> list[bool]:
        self.detached += sessions
        return [True] * len(sessions)


# What mypy holds it to.
_session_store: type[SessionStore] = MemorySessions
