"""The audit trail holds for every order of writes, key rotations, prunings and clock steps, and shows any change."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from distributor.identity.audit_chain import ChainPolicy, Prune
from distributor.identity.audit_head import ChainHead
from distributor.identity.audit_keys import AuditKeyRing
from distributor.identity.audit_rows import StoredRow
from distributor.identity.merkle_tree import MerkleTree
from tests.support.memory_trail import MemoryTrail, queued, ring, texts

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.integers(1, 9)),
        st.tuples(st.just("wait"), st.integers(0, 90)),
        st.tuples(st.just("clock goes back"), st.integers(1, 50)),
        st.tuples(st.just("rotate"), st.just(0)),
        st.tuples(st.just("prune"), st.integers(1, 6)),
    ),
    min_size=1,
    max_size=30,
)


def run(steps: list[tuple[str, int]]) -> MemoryTrail:
    trail = MemoryTrail(policy=ChainPolicy(segment_ms=60, segment_rows=20, checkpoint_ms=40, checkpoint_rows=7))
    trail.add()
    for what, number in steps:
        if what == "add":
            trail.add(*[queued(n) for n in range(number)])
        elif what == "wait":
            trail.now_ms += number
        elif what == "clock goes back":
            trail.now_ms -= number
        elif what == "rotate":
            trail.keys = AuditKeyRing([*trail.keys.keys, *ring(f"k{len(trail.keys.keys) + 1}").keys])
        else:
            trail.add(prune=Prune(number, 0))
    trail.now_ms += 1_000
    return trail


@given(STEPS)
@settings(max_examples=150, deadline=None)
def test_whatever_writers_do_the_trail_holds(steps: list[tuple[str, int]]) -> None:
    trail = run(steps)
    verdicts = trail.verify(trail.checkpoints)
    assert verdicts.ok, texts(verdicts)
    assert trail.head is not None
    head = ChainHead.read(trail.head, trail.keys)
    kept = [seq for rows in trail.segments.values() for seq in rows]
    assert sorted(kept) == [*range(verdicts.pruned_through + 1, head.seq + 1)], "gapless"


@given(STEPS, st.data())
@settings(max_examples=150, deadline=None)
def test_any_change_of_what_is_stored_shows(steps: list[tuple[str, int]], data: st.DataObject) -> None:
    trail = run(steps)
    segment = data.draw(st.sampled_from(sorted(number for number, rows in trail.segments.items() if rows)))
    rows = trail.segments[segment]
    seq = data.draw(st.sampled_from(sorted(rows)))
    row = rows[seq]
    if data.draw(st.booleans(), label="delete"):
        del rows[seq]
    else:
        place = data.draw(st.integers(0, len(row.data) - 1))
        changed = bytearray(row.data)
        changed[place] ^= data.draw(st.integers(1, 255))
        rows[seq] = StoredRow(bytes(changed), row.mac)
    assert not trail.verify().ok


@given(st.integers(0, 70), st.integers(0, 70))
def test_a_tree_continued_from_its_hashes_has_the_same_root(first: int, more: int) -> None:
    leaves = [str(n).encode() for n in range(first + more)]
    whole, part = MerkleTree(), MerkleTree()
    for leaf in leaves[:first]:
        part.append(leaf)
    part = MerkleTree(part.size, part.hashes)
    for leaf in leaves[first:]:
        part.append(leaf)
    for leaf in leaves:
        whole.append(leaf)
    assert part.root() == whole.root()
