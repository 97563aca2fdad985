"""The audit trail in Valkey: one chain by several writers, segments, manifests, pruning."""

from __future__ import annotations

import asyncio

import pytest

from distributor.dispatch.ports import AuditAppended
from distributor.identity.audit_chain import ChainPolicy, Happened, Prune, extended
from distributor.identity.audit_head import Authenticated, ChainHead
from distributor.identity.audit_verification import AuditVerification
from distributor.model.audit_verdict import AuditVerdicts
from distributor.store import keys
from distributor.store.audit_log import ValkeyAuditLog
from tests.support.memory_trail import DAY_MS, MemoryTrail, queued, texts
from tests.support.store_world import StoreWorld


async def verified(log: ValkeyAuditLog, trail: MemoryTrail) -> AuditVerdicts:
    """The verdicts on what Valkey has."""
    state = await log.state()
    assert state.head is not None
    origin = ChainHead.read(state.head, trail.keys).origin
    verification = AuditVerification(trail.keys, trail.now_ms)
    verification.begin(state.head, await log.manifests(origin))
    for segment in verification.segments:
        verification.add(segment, await log.rows(origin, segment, 0, 10_000))
        verification.end_segment(segment)
    return verification.verdicts()


async def add(log: ValkeyAuditLog, trail: MemoryTrail, entries: int = 1, prune: Prune | None = None) -> AuditAppended:
    extension = trail.add(*[queued(n) for n in range(entries)], prune=prune)
    assert extension is not None
    return await log.append(extension)


async def test_what_was_appended_is_read(world: StoreWorld) -> None:
    log, trail = world.audit_log, MemoryTrail(policy=ChainPolicy(checkpoint_rows=3))
    assert (await log.state()).head is None
    appended = await add(log, trail, 5)
    assert appended.stored
    assert appended.head == trail.head
    state = await log.state()
    assert state.head == trail.head
    assert state.checkpoint == trail.checkpoints[-1].text
    origin = ChainHead.read(state.head, trail.keys).origin if state.head else ""
    found = await log.rows(origin, 1, 2, 2)
    assert [(one.number, one.row) for one in found] == [(seq, trail.rows[seq]) for seq in (3, 4)]
    found = await log.rows_before(origin, 1, 5, 2)
    assert [one.number for one in found] == [4, 3]
    verdicts = await verified(log, trail)
    assert verdicts.ok, texts(verdicts)


async def test_a_row_that_continues_another_head_is_not_stored(world: StoreWorld) -> None:
    log, trail = world.audit_log, MemoryTrail()
    await add(log, trail)
    before = trail.head
    late = extended(before, [Happened(queued(9), 0)], trail.now_ms, trail.keys, trail.policy)
    assert late is not None
    await add(log, trail)
    appended = await log.append(late)
    assert not appended.stored
    assert appended.head == trail.head, "what to continue instead"
    assert (await verified(log, trail)).ok


async def test_segments_and_pruning(world: StoreWorld) -> None:
    log, trail = world.audit_log, MemoryTrail()
    for _ in range(4):
        await add(log, trail, 3)
        trail.now_ms += DAY_MS
    await add(log, trail, prune=Prune(2, 8))
    names = {key.decode() for key in await world.connection.call("KEYS", "audit:segment:*")}
    assert sorted(name.rpartition(":")[2] for name in names) == ["3", "4", "5"]
    verdicts = await verified(log, trail)
    assert verdicts.ok, texts(verdicts)
    assert verdicts.pruned_through > 0
    await world.connection.call("DEL", *sorted(names)[:1])
    assert not (await verified(log, trail)).ok


async def test_several_writers_make_one_chain(world: StoreWorld) -> None:
    log, trail = world.audit_log, MemoryTrail()
    conflicts = 0

    async def write(writer: int) -> None:
        nonlocal conflicts
        head: Authenticated | None = (await log.state()).head
        for number in range(20):
            entry = queued(100 * writer + number)
            while True:
                extension = extended(head, [Happened(entry, 0)], trail.now_ms, trail.keys, trail.policy)
                assert extension is not None
                appended = await log.append(extension)
                head = appended.head
                if appended.stored:
                    break
                conflicts += 1

    await asyncio.gather(*(write(writer) for writer in range(1, 5)))
    verdicts = await verified(log, trail)
    assert verdicts.ok, texts(verdicts)
    assert verdicts.last_seq == 1 + 80
    assert conflicts > 0, "they did write at the same time"


async def test_a_full_valkey_takes_rows(world: StoreWorld) -> None:
    log, trail = world.audit_log, MemoryTrail()
    await add(log, trail)
    await world.connection.call("CONFIG", "SET", "maxmemory", 1)
    try:
        assert (await add(log, trail)).stored
    finally:
        await world.connection.call("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("stored", [b"\xff", b"x", b"9 {}"])
async def test_damage_shows_as_such(world: StoreWorld, stored: bytes) -> None:
    log, trail = world.audit_log, MemoryTrail()
    await add(log, trail, 3)
    trail.now_ms += DAY_MS
    await add(log, trail, 3)
    (name,) = await world.connection.call("KEYS", "audit:manifests:*")
    await world.connection.call("HSET", name, 1, stored)
    (rows,) = await world.connection.call("KEYS", "audit:segment:*:2")
    await world.connection.call("XADD", rows, "*", "what", stored)
    verdicts = await verified(log, trail)
    assert not verdicts.ok
    await world.connection.call("HSET", keys.AUDIT_HEAD, "head", stored)
    assert texts(await verified_head(log, trail))


async def verified_head(log: ValkeyAuditLog, trail: MemoryTrail) -> AuditVerdicts:
    verification = AuditVerification(trail.keys, trail.now_ms)
    verification.begin((await log.state()).head, {})
    return verification.verdicts()


async def test_settings_of_the_server_before(world: StoreWorld) -> None:
    log = world.audit_log
    assert await log.swap_settings({"listen": "a"}) is None
    assert await log.swap_settings({"listen": "b"}) == {"listen": "a"}
    await world.connection.call("SET", keys.AUDIT_SETTINGS, "damaged")
    assert await log.swap_settings({"listen": "b"}) == {}
