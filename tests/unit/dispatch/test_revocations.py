"""Whose streams end, and when."""

from __future__ import annotations

import asyncio
import time

import pytest

from distributor.dispatch.ports import RevocationStore
from distributor.dispatch.revocations import Lapse, Revocations
from distributor.errors import Unauthenticated, Unavailable
from distributor.model.revocation import Credential, Revocation, RevocationList, RevokedKind
from tests.support.waiting import until

CERTIFICATE = Credential("press-7", generation=2, expires=2_000_000_000.0)
TOKEN = Credential("press-7", token_ids=("jti-1",), expires=2_000_000_000.0)
NOW = 1_900_000_000.0


class MemoryList:
    """A list of revocations in memory."""

    def __init__(self) -> None:
        self.entries: dict[str, Revocation] = {}
        self.version = 0
        self.reads = 0
        self.away = False

    async def changed_since(self, version: int) -> RevocationList | None:
        if self.away:
            raise Unavailable("Valkey is away")
        self.reads += 1
        return None if version == self.version else RevocationList(self.version, self.entries.values())

    async def revoke(self, kind: RevokedKind, subject: str, revoked_by: str = "", reason: str = "") -> Revocation:
        self.version += 1
        generation = 2 if kind is RevokedKind.AGENT else 0
        entry = Revocation(kind, subject, self.version * 1000, generation, revoked_by, reason)
        self.entries[subject] = entry
        return entry

    async def restore_service(self, name: str) -> None:
        raise NotImplementedError

    async def restore_agent(self, agent_id: str) -> None:
        self.version += 1
        del self.entries[agent_id]


_PORT: type[RevocationStore] = MemoryList


@pytest.fixture
def store() -> MemoryList:
    return MemoryList()


@pytest.fixture
def revocations(store: MemoryList) -> Revocations:
    return Revocations(store, 0.01)


async def test_streams_of_a_revoked_agent_end_and_others_go_on(store: MemoryList, revocations: Revocations) -> None:
    ended: list[tuple[str, Lapse]] = []
    other = Credential("press-8", generation=1)
    with (
        revocations.guard(CERTIFICATE, lambda lapse: ended.append(("press-7", lapse))),
        revocations.guard(other, lambda lapse: ended.append(("press-8", lapse))),
    ):
        assert await revocations.run_once(NOW) == 0
        await store.revoke(RevokedKind.AGENT, "press-7")
        assert await revocations.run_once(NOW) == 1
        assert await revocations.run_once(NOW) == 0, "a stream is ended once"
    assert ended == [("press-7", Lapse.REVOKED)]
    assert len(revocations) == 0


async def test_a_later_generation_counts(store: MemoryList, revocations: Revocations) -> None:
    await store.revoke(RevokedKind.AGENT, "press-7")
    await revocations.run_once(NOW)
    with pytest.raises(Unauthenticated) as caught, revocations.guard(CERTIFICATE, lambda _: None):
        pass
    assert caught.value.reason == "CREDENTIALS_REVOKED"
    revocations.check(CERTIFICATE._replace(generation=3))


async def test_a_stream_by_token_ends_when_its_agent_or_its_token_is_revoked(
    store: MemoryList, revocations: Revocations
) -> None:
    for kind, subject in ((RevokedKind.AGENT, "press-7"), (RevokedKind.TOKEN, "jti-1")):
        ended: list[Lapse] = []
        with revocations.guard(TOKEN, ended.append):
            await store.revoke(kind, subject)
            await revocations.run_once(NOW)
        assert ended == [Lapse.REVOKED], subject


async def test_a_newer_token_of_an_agent_that_was_revoked_earlier_goes_on(
    store: MemoryList, revocations: Revocations
) -> None:
    await store.revoke(RevokedKind.AGENT, "press-7")
    await revocations.run_once(NOW)
    with revocations.guard(TOKEN, lambda _: pytest.fail("ended")):
        await store.revoke(RevokedKind.TOKEN, "another")
        await revocations.run_once(NOW)


async def test_streams_end_when_their_credentials_expire(revocations: Revocations) -> None:
    ended: list[Lapse] = []
    with revocations.guard(CERTIFICATE, ended.append):
        assert CERTIFICATE.expires is not None
        await revocations.run_once(CERTIFICATE.expires - 1)
        assert ended == []
        await revocations.run_once(CERTIFICATE.expires)
    assert ended == [Lapse.EXPIRED]
    with pytest.raises(Unauthenticated) as caught:
        revocations.check(CERTIFICATE._replace(expires=time.time() - 1))
    assert caught.value.reason == "CREDENTIALS_EXPIRED"


async def test_while_the_store_is_away_the_last_list_counts_and_streams_still_expire(
    store: MemoryList, revocations: Revocations
) -> None:
    await store.revoke(RevokedKind.AGENT, "press-8")
    await revocations.run_once(NOW)
    store.away = True
    ended = asyncio.Event()
    running = asyncio.create_task(revocations.run())
    with revocations.guard(CERTIFICATE._replace(expires=time.time() + 0.05), lambda _: ended.set()):
        async with asyncio.timeout(20):
            await ended.wait()
    assert revocations.list.is_certificate_revoked("press-8", 1)
    store.away = False
    store.version += 1
    await until(lambda: revocations.list.version == store.version)
    running.cancel()
    await asyncio.wait([running])


async def test_nobody_is_revoked_without_a_store() -> None:
    revocations = Revocations()
    assert await revocations.run_once(NOW) == 0
    revocations.check(CERTIFICATE)
