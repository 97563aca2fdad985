"""Which processes of the host belong to a command."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from distributor.agent.process_tree import RUN_MARKER, ProcessTree
from tests.support.fake_proc import FakeProc

ROOT = 1_000
RUN = {RUN_MARKER: "run-1"}


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    """A host with the command's first process, and another's that came later."""
    proc = FakeProc(tmp_path, monkeypatch)
    proc.add(ROOT, started=500)
    proc.add(2_000, started=600, environ={RUN_MARKER: "run-2"})
    proc.latest(2_000)
    return proc


def found(tree: ProcessTree) -> list[int]:
    return sorted(process.pid for process in tree.find())


def test_members_descendants_and_marked_processes_are_found(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, RUN)
    proc.add(1_001, group=ROOT)
    proc.add(1_002, parent=ROOT)
    proc.add(1_003, parent=1_002)
    proc.add(1_004, environ=RUN)
    proc.add(1_005, parent=1_004)
    assert found(tree) == [ROOT, 1_001, 1_002, 1_003, 1_004, 1_005]


def test_what_was_found_stays_found_when_its_parents_end(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, {})
    proc.add(1_002, parent=ROOT)
    proc.add(1_003, parent=1_002)
    tree.find()
    for pid in (ROOT, 1_002):
        proc.remove(pid)
    proc.add(1_003)
    assert found(tree) == [1_003]
    proc.add(1_003, started=101)
    assert found(tree) == [], "another process with its id"


def test_a_zombie_keeps_the_group(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, {})
    proc.add(ROOT, started=500, state="Z")
    proc.add(1_001, group=ROOT)
    proc.add(1_002, parent=ROOT)
    assert found(tree) == [1_001, 1_002]


@pytest.mark.parametrize("leader", [True, False], ids=["with its leader", "without its leader"])
def test_a_later_group_with_the_same_id_is_not_of_the_command(proc: FakeProc, leader: bool) -> None:
    tree = ProcessTree(ROOT, RUN)
    proc.remove(ROOT)
    if leader:
        proc.add(ROOT, started=900)
    proc.add(1_001, started=901, group=ROOT, parent=ROOT)
    proc.add(1_002, started=902, parent=1_001)
    assert found(tree) == []


def test_the_rest_of_a_group_without_its_leader_counts_if_a_member_has_the_mark(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, RUN)
    proc.remove(ROOT)
    proc.add(1_001, started=901, group=ROOT)
    proc.add(1_002, started=902, group=ROOT, environ=RUN)
    assert found(tree) == [1_001, 1_002]


def test_the_rest_of_a_group_without_its_leader_counts_if_a_member_was_found_before(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, {})
    proc.add(1_001, started=501, group=ROOT)
    tree.find()
    proc.remove(ROOT)
    proc.add(1_002, started=902, group=ROOT)
    assert found(tree) == [1_001, 1_002]


def test_the_rest_of_a_group_counts_if_it_is_older_than_the_end_of_its_leader(
    proc: FakeProc, monkeypatch: pytest.MonkeyPatch
) -> None:
    tree = ProcessTree(ROOT, {})
    proc.remove(ROOT)
    # At 9 s after the boot, which are 900 of the usual ticks.
    monkeypatch.setattr(time, "clock_gettime", lambda clock: 9.0)
    monkeypatch.setattr("os.sysconf", lambda name: 100)
    tree.root_ended()
    proc.add(1_001, started=901, group=ROOT)
    assert found(tree) == []
    proc.add(1_001, started=900, group=ROOT)
    assert found(tree) == [1_001]


def test_ids_that_began_anew_are_searched_as_well(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, RUN)
    proc.add(400, environ=RUN)
    assert found(tree) == [ROOT], "ids below the first process's are older"
    proc.latest(401)
    assert found(tree) == [400, ROOT]


def test_whether_anything_is_younger(proc: FakeProc) -> None:
    tree = ProcessTree(ROOT, RUN)
    assert tree.anything_younger()
    proc.latest(ROOT)
    assert not tree.anything_younger()
