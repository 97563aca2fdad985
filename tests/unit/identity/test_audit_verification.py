"""Each way to tamper with the trail changes its own verdict, and only that."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from distributor.identity.audit_chain import ChainPolicy, Prune
from distributor.identity.audit_checkpoint import parsed, signed
from distributor.identity.audit_head import ChainHead
from distributor.identity.audit_keys import AuditKey, AuditKeyRing
from distributor.identity.audit_rows import Place, StoredRow, stored
from distributor.model.audit_entry import AuditEvent
from distributor.model.audit_verdict import AuditVerdicts, Verdict
from tests.support.memory_trail import DAY_MS, MemoryTrail, queued, ring, texts

INTEGRITY, COMPLETENESS, ORDER, CLOCK = Verdict.INTEGRITY, Verdict.COMPLETENESS, Verdict.ORDER, Verdict.CLOCK


def failed(verdicts: AuditVerdicts) -> set[Verdict]:
    return {verdict for verdict in Verdict if not verdicts.holds(verdict)}


def trail_of(rows: int, policy: ChainPolicy | None = None) -> MemoryTrail:
    """A trail whose last row has this number; the first says that it began."""
    trail = MemoryTrail(policy=policy)
    while ChainHead.read(trail.head, trail.keys).seq < rows if trail.head else True:
        trail.add(queued()) if trail.head else trail.add()
        trail.now_ms += 10
    return trail


def test_an_untouched_trail_holds() -> None:
    trail = trail_of(12)
    verdicts = trail.verify()
    assert verdicts.ok, texts(verdicts)
    assert (verdicts.rows, verdicts.last_seq, verdicts.witnesses) == (12, 12, 0)


def change(trail: MemoryTrail) -> None:
    row = trail.rows[5]
    trail.rows[5] = StoredRow(row.data.replace(b"alice", b"mallo"), row.mac)


def change_the_mac(trail: MemoryTrail) -> None:
    trail.rows[5] = StoredRow(trail.rows[5].data, trail.rows[6].mac)


def change_the_form(trail: MemoryTrail) -> None:
    trail.rows[5] = StoredRow(trail.rows[5].data.replace(b":", b": "), trail.rows[5].mac)


def damage(trail: MemoryTrail) -> None:
    trail.rows[5] = StoredRow(b"\xff{", "")


def insert(trail: MemoryTrail) -> None:
    trail.rows[13] = trail.rows[12]


def recompute_without_key(trail: MemoryTrail) -> None:
    """All rows from one on are made again with a key of the attacker's, under the id of ours."""
    key = AuditKey("k1", b"m" * 32)
    previous = trail.rows[4].mac
    for seq in range(5, 13):
        trail.rows[seq] = stored(queued(9), Place(seq, trail.now_ms, previous), key)
        previous = trail.rows[seq].mac


def delete(trail: MemoryTrail) -> None:
    del trail.rows[5]


def delete_several(trail: MemoryTrail) -> None:
    for seq in (1, 2, 7, 8, 12):
        del trail.rows[seq]


def cut_the_end(trail: MemoryTrail) -> None:
    for seq in range(9, 13):
        del trail.rows[seq]


def delete_all(trail: MemoryTrail) -> None:
    trail.rows.clear()


def swap(trail: MemoryTrail) -> None:
    trail.rows[5], trail.rows[6] = trail.rows[6], trail.rows[5]


def repeat(trail: MemoryTrail) -> None:
    trail.rows[5] = trail.rows[4]


def set_the_clock_ahead(trail: MemoryTrail) -> None:
    trail.now_ms -= 3_600_000


@pytest.mark.parametrize(
    ("tamper", "verdict"),
    [
        (change, INTEGRITY),
        (change_the_mac, INTEGRITY),
        (change_the_form, INTEGRITY),
        (damage, INTEGRITY),
        (recompute_without_key, INTEGRITY),
        (delete, COMPLETENESS),
        (delete_several, COMPLETENESS),
        (cut_the_end, COMPLETENESS),
        (delete_all, COMPLETENESS),
        (swap, ORDER),
        (repeat, ORDER),
        (set_the_clock_ahead, CLOCK),
    ],
)
def test_what_was_done_shows_in_its_verdict_alone(tamper: Callable[[MemoryTrail], None], verdict: Verdict) -> None:
    trail = trail_of(12)
    tamper(trail)
    verdicts = trail.verify()
    assert failed(verdicts) == {verdict}, texts(verdicts)


def test_an_inserted_row() -> None:
    trail = trail_of(12)
    insert(trail)
    assert not trail.verify().ok


def test_a_row_of_another_chain_with_the_same_key() -> None:
    """Authentic by itself, but it does not continue the row before it."""
    trail, other = trail_of(12), MemoryTrail()
    other.keys, other.now_ms = trail.keys, trail.now_ms - 100
    other.add(*[queued(8)] * 11)
    trail.rows[5] = other.rows[5]
    assert INTEGRITY in failed(trail.verify())


def test_the_findings_name_the_rows() -> None:
    trail = trail_of(12)
    delete(trail)
    swap_back = trail.rows[8]
    trail.rows[8] = StoredRow(swap_back.data.replace(b"alice", b"mallo"), swap_back.mac)
    assert texts(trail.verify()) == [
        "integrity 8 the row was not written with an audit key, or was changed",
        "completeness 5 row 5 is missing",
    ]


class TestCheckpoints:
    """What others remember shows a cut or replaced end, which the chain itself cannot."""

    POLICY = ChainPolicy(checkpoint_rows=3)

    def test_they_confirm_an_untouched_trail(self) -> None:
        trail = trail_of(20, self.POLICY)
        assert len(trail.checkpoints) >= 4
        verdicts = trail.verify(trail.checkpoints)
        assert verdicts.ok, texts(verdicts)
        assert verdicts.witnesses == len(trail.checkpoints)

    def test_an_earlier_state_put_back(self) -> None:
        trail = trail_of(9, self.POLICY)
        head, rows = trail.head, dict(trail.rows)
        for _ in range(12):
            trail.add(queued())
        remembered = trail.checkpoints[-1:]
        trail.head, trail.segments[1] = head, rows
        assert trail.verify().ok, "by itself, nobody could know"
        verdicts = trail.verify(remembered)
        assert failed(verdicts) == {COMPLETENESS}
        assert "the end was cut off" in texts(verdicts)[0]

    def test_an_earlier_state_that_grew_again(self) -> None:
        trail = trail_of(9, self.POLICY)
        head, rows = trail.head, dict(trail.rows)
        trail.add(queued(1), queued(2), queued(3))
        remembered = trail.checkpoints[-1:]
        trail.head, trail.segments[1] = head, rows
        trail.add(*[queued(9)] * 12)
        assert trail.verify().ok
        verdicts = trail.verify(remembered)
        assert failed(verdicts) == {COMPLETENESS}
        assert "remembers other rows" in texts(verdicts)[0]

    def test_a_trail_that_began_anew(self) -> None:
        trail = trail_of(9, self.POLICY)
        anew = MemoryTrail(trail.keys)
        anew.add(*[queued()] * 12)
        assert "remembers another chain" in texts(anew.verify(trail.checkpoints[:1]))[0]

    def test_no_trail_at_all(self) -> None:
        assert failed(MemoryTrail().verify()) == {COMPLETENESS}

    def test_forged_ones_say_nothing(self) -> None:
        trail = trail_of(9, self.POLICY)
        origin = trail.checkpoints[0].origin
        forged = signed(origin, 99, b"r" * 32, ring("k1").current)
        unknown = signed(origin, 99, b"r" * 32, ring("k9").current)
        altered = replace(forged, text=trail.checkpoints[0].text)
        assert parsed(altered.text) is not None
        verdicts = trail.verify([forged, unknown])
        assert verdicts.ok
        assert verdicts.witnesses == 0


class TestKeys:
    def test_rotation_keeps_what_is_old_verifiable(self) -> None:
        trail = trail_of(5)
        rotate(trail, "k2")
        trail.add(queued())
        rotate(trail, "k3")
        trail.add(queued())
        verdicts = trail.verify()
        assert verdicts.ok, texts(verdicts)

    def test_a_writer_that_has_not_read_the_new_key_cannot_write(self) -> None:
        trail = trail_of(5)
        old = trail.keys
        rotate(trail, "k2")
        trail.add(queued())
        trail.keys = old
        with pytest.raises(Exception, match="'k2', which audit_key_file lacks"):
            trail.add(queued())

    def test_a_missing_old_key_is_named_and_not_called_tampering(self) -> None:
        trail = trail_of(5)
        rotate(trail, "k2")
        trail.add(queued())
        verdicts = trail.verify(keys=AuditKeyRing(trail.keys.keys[1:]))
        assert verdicts.unverifiable == 5
        assert verdicts.counts[INTEGRITY] == 5
        assert all("audit_key_file lacks the key 'k1'" in text for text in texts(verdicts)), texts(verdicts)

    def test_a_key_that_the_older_one_did_not_confirm(self) -> None:
        """Whoever adds a key of their own to the key file does not change what is old."""
        trail = trail_of(5)
        keys = AuditKeyRing([*trail.keys.keys, *ring("k2").keys])
        rows = trail.rows
        rows[5] = stored(queued(9), Place(5, trail.now_ms, rows[4].mac), keys.current)
        assert any("is not confirmed by the key 'k1'" in text for text in texts(trail.verify(keys=keys)))


class TestPruning:
    POLICY = ChainPolicy(checkpoint_rows=4)

    def days(self, days: int) -> MemoryTrail:
        trail = MemoryTrail(policy=self.POLICY)
        for _ in range(days):
            trail.add(*[queued()] * 5)
            trail.now_ms += DAY_MS
        trail.add(queued())
        return trail

    def test_reads_as_pruned(self) -> None:
        trail = self.days(5)
        assert sorted(trail.segments) == [1, 2, 3, 4, 5, 6]
        trail.add(prune=Prune(3, 0))
        assert sorted(trail.segments) == [4, 5, 6]
        verdicts = trail.verify(trail.checkpoints)
        assert verdicts.ok, texts(verdicts)
        assert verdicts.pruned_through == min(trail.segments[4]) - 1
        assert 0 < verdicts.witnesses < len(trail.checkpoints), "those of pruned rows cannot be compared"

    def test_pruning_twice_is_once(self) -> None:
        trail = self.days(5)
        trail.add(prune=Prune(3, 0))
        assert trail.add(prune=Prune(3, 0)) is None

    def test_the_open_segment_stays(self) -> None:
        trail = self.days(2)
        trail.add(prune=Prune(99, 0))
        assert sorted(trail.segments) == [3]

    def test_a_segment_taken_away_reads_as_missing(self) -> None:
        trail = self.days(5)
        del trail.segments[2]
        verdicts = trail.verify()
        assert failed(verdicts) == {COMPLETENESS}
        assert len(texts(verdicts)) == 1, texts(verdicts)

    def test_rows_cut_from_the_end_of_a_closed_segment(self) -> None:
        trail = self.days(5)
        del trail.segments[2][max(trail.segments[2])]
        assert failed(trail.verify()) == {COMPLETENESS}

    def test_a_manifest_taken_away(self) -> None:
        trail = self.days(5)
        del trail.manifests[2]
        assert COMPLETENESS in failed(trail.verify())

    def test_a_manifest_of_another_segment(self) -> None:
        trail = self.days(5)
        trail.manifests[2] = trail.manifests[3]
        assert INTEGRITY in failed(trail.verify())

    def test_an_altered_head_or_manifest(self) -> None:
        trail = self.days(3)
        trail.manifests[1] = replace(trail.manifests[1], data=trail.manifests[1].data + b" ")
        assert failed(trail.verify()) == {INTEGRITY}
        assert trail.head is not None
        trail.head = replace(trail.head, mac="x")
        assert failed(trail.verify()) == {INTEGRITY}


def rotate(trail: MemoryTrail, key_id: str) -> None:
    trail.keys = AuditKeyRing([*trail.keys.keys, *ring(key_id).keys])


def test_every_kind_of_event_has_a_code_of_its_own() -> None:
    from distributor.model.audit_entry import CODES

    assert set(CODES) == set(AuditEvent)
    assert len(set(CODES.values())) == len(CODES)
