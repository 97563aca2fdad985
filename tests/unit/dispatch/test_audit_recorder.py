from __future__ import annotations

import asyncio

import pytest

from distributor.dispatch import audit_recorder
from distributor.dispatch.audit_recorder import AuditRecorder
from distributor.errors import ConfigurationError, Unavailable
from distributor.identity.audit_chain import ChainPolicy, Prune
from distributor.identity.audit_keys import AuditKeyRing
from distributor.model.audit_entry import AuditEntry, AuditEvent
from distributor.observability.metrics import Metrics
from tests.support.memory_audit_log import MemoryAuditLog
from tests.support.memory_trail import ALICE, DAY_MS, MemoryTrail, ring, texts
from tests.support.own_logs import own_logs
from tests.support.serving_agent import background
from tests.support.waiting import until


def at(number: int) -> AuditEntry:
    return AuditEntry(AuditEvent.COMMAND_QUEUED, ALICE, agent_id=f"agent-{number}", command_ids=(f"c{number}",))


def recorder(log: MemoryAuditLog, metrics: Metrics | None = None) -> AuditRecorder:
    return AuditRecorder(log, lambda: log.trail.keys, metrics or Metrics(), log.trail.policy)


def agents(log: MemoryAuditLog) -> list[str]:
    return [row.entry.agent_id for row in log.read() if row.entry.event is AuditEvent.COMMAND_QUEUED]


async def test_what_is_noted_is_written_together() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    async with background(audit.run()):
        for number in range(5):
            audit.note(at(number))
        assert agents(log) == [], "the caller does not wait"
        await until(lambda: len(agents(log)) == 5)
    assert log.appends == 1
    assert log.trail.verify().ok


async def test_what_is_written_is_there_at_once() -> None:
    log = MemoryAuditLog()
    await recorder(log).write(at(1))
    assert agents(log) == ["agent-1"]


async def test_writing_fails_if_the_trail_is_away() -> None:
    log = MemoryAuditLog()
    log.away = True
    with pytest.raises(Unavailable, match="audit trail cannot be written") as caught:
        await recorder(log).write(at(1))
    assert caught.value.reason == "AUDIT_UNAVAILABLE"


async def test_several_replicas_write_one_chain() -> None:
    log = MemoryAuditLog()
    one, other = recorder(log), recorder(log)
    for number in range(0, 20, 2):
        one.note(at(number))
        other.note(at(number + 1))
        await one.run_once()
        await other.run_once()
    assert sorted(agents(log)) == sorted(f"agent-{number}" for number in range(20))
    verdicts = log.trail.verify()
    assert verdicts.ok, texts(verdicts)


async def test_entries_wait_while_valkey_is_away_and_then_a_row_tells_of_those_that_had_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(audit_recorder, "MAX_WAITING", 3)
    monkeypatch.setattr(audit_recorder, "RETRY_SECONDS", 0.001)
    metrics, log = Metrics(), MemoryAuditLog()
    log.away = True
    audit = recorder(log, metrics)
    with own_logs() as logs:
        async with background(audit.run()):
            for number in range(8):
                audit.note(at(number))
            await until(lambda: logs)
            log.away = False
            await until(lambda: len(agents(log)) == 3)
    assert [line["event"] for line in logs][:2] == ["cannot write the audit trail", "can write the audit trail again"]
    (gap,) = [row.entry for row in log.read() if row.entry.event is AuditEvent.GAP]
    assert (gap.count, gap.code) == (5, "AUD07E")
    assert metrics.registry.get_sample_value("distributor_audit_dropped_total") == 5
    audit.note(at(9))
    await audit.run_once()
    assert len([row for row in log.read() if row.entry.event is AuditEvent.GAP]) == 1
    assert log.trail.verify().ok


async def test_what_was_stored_without_an_answer_is_not_stored_again() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    audit.note(at(1))
    log.answers_lost = 1
    with pytest.raises(Unavailable):
        await audit.run_once()
    await recorder(log).write(at(2))
    audit.note(at(3))
    await audit.run_once()
    assert agents(log) == ["agent-1", "agent-2", "agent-3"]
    assert log.trail.verify().ok


async def test_a_write_between_two_tries_is_written() -> None:
    """The doubt about what waits must not be taken for an answer about another entry."""
    log = MemoryAuditLog()
    audit = recorder(log)
    audit.note(at(1))
    log.answers_lost = 1
    with pytest.raises(Unavailable):
        await audit.run_once()
    await audit.write(at(2))
    await audit.run_once()
    assert agents(log) == ["agent-1", "agent-2"]


async def test_entries_keep_the_time_at_which_they_happened() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    audit.note(at(1))
    await asyncio.sleep(0.05)
    await audit.run_once()
    written_ms = log.trail.now_ms
    (row,) = [row for row in log.read() if row.entry.agent_id == "agent-1"]
    assert row.at_ms <= written_ms
    assert log.read()[0].at_ms <= row.at_ms


async def test_a_checkpoint_is_made_and_learnt_from_others() -> None:
    log = MemoryAuditLog(MemoryTrail(policy=ChainPolicy(checkpoint_rows=3)))
    one, other = recorder(log), recorder(log)
    with own_logs() as logs:
        for number in range(4):
            one.note(at(number))
        await one.run_once()
    assert one.checkpoint == log.trail.checkpoints[-1].text
    assert [line["checkpoint"] for line in logs if line["event"] == "audit checkpoint"] == [one.checkpoint]
    await other.look()
    assert other.checkpoint == one.checkpoint


async def test_a_checkpoint_is_made_although_nothing_happens_any_more() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    audit.note(at(1))
    await audit.run_once()
    assert audit.checkpoint == ""
    log.trail.now_ms += log.trail.policy.checkpoint_ms
    await audit.look()
    assert audit.checkpoint
    checkpoints = len(log.trail.checkpoints)
    log.trail.now_ms += log.trail.policy.checkpoint_ms
    await audit.look()
    assert len(log.trail.checkpoints) == checkpoints, "there is nothing new"


async def test_an_older_state_put_back_is_an_alarm() -> None:
    metrics, log = Metrics(), MemoryAuditLog()
    audit = recorder(log, metrics)
    await audit.write(at(1))
    head, rows = log.trail.head, dict(log.trail.rows)
    await audit.write(at(2))
    await audit.write(at(3))
    log.trail.head, log.trail.segments[1] = head, rows
    with own_logs() as logs:
        await audit.look()
        await audit.run_once()
    assert [(line["event"], line["remembered"], line["found"]) for line in logs] == [
        ("the audit trail lost rows", 4, 2)
    ]
    assert metrics.registry.get_sample_value("distributor_audit_alarms_total") == 1
    assert log.read()[-1].entry.code == "AUD08E"


async def test_an_emptied_valkey_begins_a_new_trail_with_an_alarm() -> None:
    metrics, log = Metrics(), MemoryAuditLog()
    audit = recorder(log, metrics)
    await audit.write(at(1))
    log.trail.head, log.trail.segments = None, {}
    await audit.write(at(2))
    await audit.run_once()
    assert [row.entry.event for row in log.read()] == [
        AuditEvent.CHAIN_STARTED,
        AuditEvent.COMMAND_QUEUED,
        AuditEvent.WITNESS_CONTRADICTED,
    ]
    assert metrics.registry.get_sample_value("distributor_audit_alarms_total") == 1


async def test_a_rotated_key_is_used_from_the_next_row_on() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    await audit.write(at(1))
    log.trail.keys = AuditKeyRing([*log.trail.keys.keys, *ring("k2").keys])
    await audit.write(at(2))
    assert [(row.key_id, row.entry.event) for row in log.read()][-2:] == [
        ("k2", AuditEvent.KEY_ROTATED),
        ("k2", AuditEvent.COMMAND_QUEUED),
    ]
    assert log.trail.verify().ok


async def test_a_key_file_that_cannot_be_used_keeps_entries_until_it_can() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    await audit.write(at(1))
    good, log.trail.keys = log.trail.keys, ring("other")
    audit.note(at(2))
    with pytest.raises(ConfigurationError, match="'k1'"):
        await audit.run_once()
    log.trail.keys = good
    await audit.run_once()
    assert agents(log) == ["agent-1", "agent-2"]


async def test_pruning_is_written_once_even_if_another_replica_was_first() -> None:
    log = MemoryAuditLog()
    one, other = recorder(log), recorder(log)
    for number in range(3):
        await one.write(at(number))
        log.trail.now_ms += DAY_MS
    await one.write(at(4))
    one.prune(Prune(1, 2))
    other.prune(Prune(1, 2))
    await one.run_once()
    await other.run_once()
    assert sorted(log.trail.segments) == [2, 3, 4]
    assert [row.entry.event for row in log.read()].count(AuditEvent.PRUNED) == 1


async def test_what_waits_is_written_before_the_server_ends() -> None:
    log = MemoryAuditLog()
    audit = recorder(log)
    audit.note(at(1))
    await audit.close()
    assert agents(log) == ["agent-1"]
    log.away = True
    audit.note(at(2))
    with own_logs() as logs:
        await audit.close()
    assert [(line["event"], line["entries"]) for line in logs] == [("the last entries of the audit trail are lost", 1)]


def test_the_log_says_once_that_shares_apply_and_that_they_no_longer_do(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    audit = recorder(MemoryAuditLog())
    for part in (0.1, 0.5, 0.6, 0.2, 0.1):
        audit.filled(part)
    assert [line.getMessage().partition(":")[0] for line in caplog.records] == [
        "the audit trail fills up",
        "the audit trail has room again",
    ]
