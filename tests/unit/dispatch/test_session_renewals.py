"""Heartbeats of many agents: stored together, however many come and for however long the store is away."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Mapping, Sequence

import pytest

from distributor.dispatch import session_renewals
from distributor.dispatch.session_renewals import SessionRenewals
from distributor.errors import Unavailable
from distributor.model.agent import Renewal
from distributor.model.agent_session import AgentSession
from distributor.model.agent_vitals import HEALTHY, AgentVitals
from tests.support.memory_sessions import MemorySessions
from tests.support.waiting import until


class Stream:
    """What hears of a heartbeat."""

    def __init__(self, agent_id: str) -> None:
        self.session = AgentSession(agent_id, 1, 5, 0.0)
        self.answered: list[int] = []
        self.is_outdated = False

    def renewed(self, sequence: int) -> None:
        self.answered.append(sequence)

    def outdated(self) -> None:
        self.is_outdated = True


class Sessions(MemorySessions):
    """Notes the calls, and can be away."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []
        self.silences: list[Mapping[str, int] | None] = []
        self.vitals: list[AgentVitals | None] = []
        self.away = False
        self.answers = asyncio.Event()
        self.answers.set()

    async def heartbeat(self, renewals: Sequence[Renewal]) -> list[bool]:
        self.calls.append([one.agent_id for one in renewals])
        self.vitals += [one.vitals for one in renewals]
        self.silences += [one.silences for one in renewals]
        await self.answers.wait()
        if self.away:
            raise Unavailable("Valkey is away")
        return [one.agent_id != "old" for one in renewals]


async def test_heartbeats_of_many_agents_are_stored_in_one_call() -> None:
    sessions, streams = Sessions(), [Stream(agent_id) for agent_id in ("a", "b", "old")]
    renewals = SessionRenewals(sessions)
    for stream in streams:
        renewals.renew(stream, 1, HEALTHY)
    await until(lambda: streams[2].is_outdated)
    assert sessions.calls == [["a", "b", "old"]]
    assert [stream.answered for stream in streams] == [[1], [1], []]


async def test_while_the_store_is_away_the_latest_heartbeat_of_each_open_stream_is_kept(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_renewals, "FIRST_RETRY_SECONDS", 0.01)
    sessions, first, gone = Sessions(), Stream("a"), Stream("b")
    sessions.away = True
    renewals = SessionRenewals(sessions, 0.0)
    renewals.renew(first, 1, HEALTHY)
    renewals.renew(gone, 1, HEALTHY)
    await until(lambda: len(sessions.calls) >= 2)
    assert first.answered == []
    renewals.renew(first, 2, HEALTHY)
    renewals.forget(gone)
    await until(lambda: sessions.calls[-1] == ["a"])
    sessions.away = False
    await until(lambda: first.answered)
    assert (first.answered, gone.answered) == ([2], [])
    settled = len(sessions.calls)
    await asyncio.sleep(0.05)
    assert len(sessions.calls) == settled


@pytest.mark.parametrize("away", [True, False])
async def test_a_stream_that_ends_during_a_call_is_forgotten(monkeypatch: pytest.MonkeyPatch, away: bool) -> None:
    monkeypatch.setattr(session_renewals, "FIRST_RETRY_SECONDS", 0.01)
    sessions, gone, other = Sessions(), Stream("a"), Stream("b")
    sessions.away = away
    sessions.answers.clear()
    renewals = SessionRenewals(sessions, 0.0)
    renewals.renew(gone, 1, HEALTHY)
    await until(lambda: sessions.calls == [["a"]])
    renewals.renew(other, 1, HEALTHY)
    renewals.forget(gone)
    sessions.answers.set()
    await until(lambda: len(sessions.calls) >= 2)
    sessions.away = False
    await until(lambda: bool(other.answered))
    assert sessions.calls[1] == ["b"]
    assert gone.answered == []


def has_answered(stream: Stream, sequence: int) -> bool:
    return stream.answered[-1:] == [sequence]


async def test_vitals_are_stored_when_they_change_and_again_until_they_are_stored(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(session_renewals, "FIRST_RETRY_SECONDS", 0.01)
    sessions, stream = Sessions(), Stream("a")
    renewals = SessionRenewals(sessions, 0.0)
    ill = AgentVitals(200, False, (("journal_full", "no room"),))
    for sequence, vitals in enumerate((HEALTHY, ill, ill, HEALTHY), 1):
        renewals.renew(stream, sequence, vitals)
        await until(functools.partial(has_answered, stream, sequence))
    assert sessions.vitals == [None, ill, None, HEALTHY]
    sessions.away = True
    renewals.renew(stream, 5, ill)
    await until(lambda: len(sessions.vitals) >= 6)
    sessions.away = False
    await until(lambda: stream.answered[-1] == 5)
    assert set(sessions.vitals[4:]) == {ill}


async def test_silent_commands_are_stored_when_one_falls_silent_or_gives_a_sign_of_life() -> None:
    sessions, stream = Sessions(), Stream("a")
    renewals = SessionRenewals(sessions, 0.0)
    now = time.monotonic() * 1000
    beats: list[dict[str, float] | None] = [{}, {"c1": now - 5_000}, {"c1": now - 4_500}, None, {"c1": now - 2_000}, {}]
    for sequence, signs in enumerate(beats, 1):
        renewals.renew(stream, sequence, HEALTHY, signs)
        await until(functools.partial(has_answered, stream, sequence))
    stored = [None if silences is None else list(silences) for silences in sessions.silences]
    assert stored == [None, ["c1"], None, None, ["c1"], []]
    (first, later) = [silences["c1"] for silences in sessions.silences if silences]
    assert first >= 5_000
    assert 2_000 <= later < first
