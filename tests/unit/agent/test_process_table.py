"""What is read of /proc, from a folder that looks like it."""

from __future__ import annotations

from pathlib import Path

import pytest

from distributor.agent import process_table
from distributor.agent.process_table import (
    Process,
    alive,
    all_pids,
    group_members,
    latest_pid,
    readable,
    running,
    start_of,
    variables_of,
)
from tests.support.fake_proc import FakeProc


@pytest.fixture
def proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeProc:
    return FakeProc(tmp_path, monkeypatch)


def test_processes_that_run_are_read_whatever_their_names(proc: FakeProc) -> None:
    proc.add(7, started=70, parent=1, group=5, name="a) R 9 (b")
    proc.add(8, started=80, parent=1, group=5, state="Z")
    (proc.root / "9").mkdir()
    assert sorted(all_pids()) == [7, 8, 9]
    assert list(running([7, 8, 9, 10])) == [Process(7, 70, 1, 5)]
    assert group_members(5) == [Process(7, 70, 1, 5)]
    assert [start_of(pid) for pid in (7, 8, 9)] == [70, 80, None]


def test_a_later_process_with_the_same_id_is_another(proc: FakeProc) -> None:
    proc.add(7, started=71)
    assert list(alive([Process(7, 70, 1, 7), Process(7, 71, 1, 7)])) == [Process(7, 71, 1, 7)]


def test_environment_and_name(proc: FakeProc) -> None:
    proc.add(7, environ={"A": "1", "B": ""}, cmdline="sleep\x00600\x00")
    proc.add(8, cmdline="x" * 200)
    proc.add(9, name="kthread")
    assert variables_of(7) >= {b"A=1", b"B="}
    assert [process.name for process in running([7, 8, 9])] == ["sleep 600", "x" * 128, "kthread"]
    assert variables_of(10) == frozenset()
    assert Process(10, 1, 1, 1).name == ""


def test_without_proc_nothing_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process_table, "ROOT", str(tmp_path / "none"))
    assert not readable()
    assert (all_pids(), latest_pid(), start_of(1)) == ([], None, None)
