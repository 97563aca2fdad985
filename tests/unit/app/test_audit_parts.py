"""The audit trail of a server, as its settings say."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from distributor.app.audit_key_file import AuditKeyFile, add_key
from distributor.app.audit_parts import AuditParts, audit_parts, chain_policy
from distributor.dispatch.audit_pruning import AuditPruning
from distributor.errors import ConfigurationError
from distributor.identity.audit_head import ChainHead
from distributor.identity.audit_retention import AuditRetention
from distributor.model.audit_entry import AuditActor, AuditEntry, AuditEvent
from distributor.observability.metrics import Metrics
from distributor.settings import ServerSettings
from tests.support.memory_audit_log import MemoryAuditLog
from tests.support.memory_trail import DAY_MS, MemoryTrail, queued


def parts_of(log: MemoryAuditLog, tmp_path: Path, **settings: object) -> AuditParts:
    """The parts, with the trail's keys in a file."""
    path = tmp_path / "audit.key"
    if not path.exists():
        add_key(path, "k1")
    log.trail.keys = AuditKeyFile(path).keys()
    made = ServerSettings(audit_key_file=path, **settings)  # type: ignore[arg-type]
    log.trail.policy = chain_policy(made)
    parts = audit_parts(log, made, Metrics(), authenticated=True)
    assert parts is not None
    return parts


async def pruned(log: MemoryAuditLog, parts: AuditParts) -> ChainHead:
    """The head after a pass of the pruning that the settings ask for."""
    settings = parts.settings
    retention = AuditRetention(
        round(settings.audit_retention * 1_000), settings.audit_max_rows, settings.audit_max_bytes
    )
    pruning = AuditPruning(log, parts.recorder, parts.keys.keys, retention)
    await pruning.run_once()
    await parts.recorder.run_once()
    assert log.trail.head is not None
    return ChainHead.read(log.trail.head, log.trail.keys)


async def test_audit_retention_is_how_long_rows_are_kept(tmp_path: Path) -> None:
    log = MemoryAuditLog()
    parts = parts_of(log, tmp_path, audit_retention=3 * 86_400.0)
    for _ in range(6):
        log.trail.add(queued())
        log.trail.now_ms += DAY_MS
    head = await pruned(log, parts)
    assert head.first_segment == 4
    assert sorted(log.trail.segments) == [4, 5, 6, 7], "days 3, 4 and 5, and what was written on day 6"
    assert log.trail.verify().ok


@pytest.mark.parametrize("bound", [{"audit_max_rows": 10_000}, {"audit_max_bytes": 3_000_000}])
async def test_audit_max_rows_and_audit_max_bytes_bound_what_is_kept(tmp_path: Path, bound: dict[str, int]) -> None:
    log = MemoryAuditLog()
    parts = parts_of(log, tmp_path, **bound)
    for _ in range(14):
        log.trail.add(*[queued()] * 1_000)
    await pruned(log, parts)
    rows = [row for found in log.trail.segments.values() for row in found.values()]
    assert 7_000 <= len(rows) <= 10_000 + 1_100
    assert sum(len(row.data) for row in rows) <= 3_000_000 + 330_000
    assert log.trail.verify().ok


async def test_a_caller_cannot_fill_the_rest_of_a_trail_that_is_nearly_full(tmp_path: Path) -> None:
    log = MemoryAuditLog()
    parts = parts_of(log, tmp_path, audit_max_rows=10_000)
    eve = AuditActor("user", "eve")
    for _ in range(5):
        log.trail.add(*[queued()] * 1_000)
    await pruned(log, parts)
    before = sum(map(len, log.trail.segments.values()))
    for event in (AuditEvent.COMMAND_QUEUED, AuditEvent.COMMAND_READ, AuditEvent.COMMAND_CANCELLED):
        for number in range(1_000):
            parts.recorder.note(AuditEntry(event, eve, agent_id=f"agent{number}"))
    await parts.recorder.run_once()
    # Half of a tenth of the trail, and a summary of each kind; without shares, three times 500.
    assert sum(map(len, log.trail.segments.values())) - before <= 500 + 20


async def test_audit_checkpoint_interval_is_the_time_between_checkpoints(tmp_path: Path) -> None:
    log = MemoryAuditLog()
    parts = parts_of(log, tmp_path, audit_checkpoint_interval=7.0)
    await parts.begin()
    log.trail.now_ms += 6_900
    await parts.recorder.look()
    assert parts.recorder.checkpoint == ""
    log.trail.now_ms += 200
    await parts.recorder.look()
    assert parts.recorder.checkpoint


def test_the_key_file_must_be_set_for_a_valkey_that_is_not_embedded() -> None:
    settings = ServerSettings(valkey_url="valkey://127.0.0.1:1/0")
    with pytest.raises(ConfigurationError, match="audit_key_file") as caught:
        audit_parts(MemoryAuditLog(), settings, Metrics(), authenticated=True)
    assert caught.value.reason == "AUDIT_KEY_REQUIRED"
    assert audit_parts(MemoryAuditLog(), settings, Metrics(), authenticated=False) is None


def test_the_key_of_an_embedded_valkey_is_made_once_for_its_owner_only(tmp_path: Path) -> None:
    settings = ServerSettings(data_dir=tmp_path)
    first = audit_parts(MemoryAuditLog(), settings, Metrics(), authenticated=True)
    second = audit_parts(MemoryAuditLog(), settings, Metrics(), authenticated=True)
    assert first is not None
    assert second is not None
    assert first.keys.keys().current == second.keys.keys().current
    assert (tmp_path / "audit.key").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("audit", ["on", "off"])
def test_on_and_off_hold_whatever_authentication_is(tmp_path: Path, audit: str) -> None:
    settings = ServerSettings(data_dir=tmp_path, audit=audit)
    for authenticated in (True, False):
        parts = audit_parts(MemoryAuditLog(), settings, Metrics(), authenticated=authenticated)
        assert (parts is not None) is (audit == "on")


async def test_a_secret_setting_is_named_when_it_changes(tmp_path: Path) -> None:
    log = MemoryAuditLog()
    await parts_of(log, tmp_path, valkey_url="valkey://:first-secret@127.0.0.1:1/0").begin()
    await parts_of(log, tmp_path, valkey_url="valkey://:second-secret@127.0.0.1:1/0").begin()
    (row,) = [row for row in log.read() if row.entry.event is AuditEvent.SETTINGS_CHANGED]
    assert row.entry.details["changed"] == "valkey_url"
    stored = repr(log.trail.rows) + repr(log.settings)
    assert "secret" not in stored


class TestKeyFile:
    def test_a_key_that_is_added_is_read_without_a_restart(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("distributor.app.audit_key_file.LOOK_SECONDS", 0.0)
        path = tmp_path / "audit.key"
        add_key(path, "k1")
        file = AuditKeyFile(path)
        first = file.keys()
        assert file.keys() is first
        add_key(path, "k2")
        assert [key.key_id for key in file.keys().keys] == ["k1", "k2"]
        assert file.keys().keys[0] == first.current

    def test_others_must_not_be_able_to_read_it(self, tmp_path: Path) -> None:
        path = tmp_path / "audit.key"
        add_key(path, "k1")
        os.chmod(path, 0o640)
        with pytest.raises(ConfigurationError, match="chmod 600"):
            AuditKeyFile(path).keys()

    def test_a_key_id_is_used_once(self, tmp_path: Path) -> None:
        path = tmp_path / "audit.key"
        add_key(path, "k1")
        before = path.read_text()
        with pytest.raises(ConfigurationError, match="each key id once"):
            add_key(path, "k1")
        assert path.read_text() == before

    def test_a_file_that_is_not_there(self, tmp_path: Path) -> None:
        with pytest.raises(ConfigurationError, match="No such file"):
            AuditKeyFile(tmp_path / "none").keys()


def test_a_policy_has_ten_segments_in_each_bound() -> None:
    policy = chain_policy(ServerSettings(audit_max_rows=20_000, audit_max_bytes=10_000_000))
    assert (policy.segment_rows, policy.segment_bytes) == (2_000, 1_000_000)
    assert MemoryTrail(policy=policy).policy == policy
