"""Which processes are taken for those of a command, and how they are ended."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator

import pytest

from distributor.agent.journal_entries import ProcessMark
from distributor.agent.orphans import RunTrace, end_orphans, find_orphans, mark_of
from distributor.agent.process_table import Process
from distributor.agent.process_tree import RUN_MARKER
from distributor.environment import COMMAND_MARKER
from tests.support.on_loop import on_loop
from tests.support.started_programs import SLEEP, STUBBORN, Start, started_programs
from tests.support.waiting import until

COMMAND = "c1"
FORKS = """
import os, time
print("ready", flush=True)
for _ in range(40):
    if os.fork() == 0:
        os.close(1)
        time.sleep(600)
        os._exit(0)
    time.sleep(0.02)
time.sleep(600)
"""


@pytest.fixture
def run() -> str:
    return f"run-{uuid.uuid4()}"


@pytest.fixture
def start() -> Iterator[Start]:
    with started_programs() as start:
        yield start


def orphans(trace: RunTrace) -> list[Process]:
    return find_orphans({COMMAND: trace}).get(COMMAND, [])


def pids(found: list[Process]) -> list[int]:
    return [process.pid for process in found]


def test_a_process_is_found_by_its_group_or_by_the_mark_of_its_run(start: Start, run: str) -> None:
    grouped, marked = start(SLEEP), start(SLEEP, {RUN_MARKER: run})
    assert sorted(pids(orphans(RunTrace(run, mark_of(grouped.pid))))) == sorted((grouped.pid, marked.pid))
    assert pids(orphans(RunTrace(run))) == [marked.pid]


def test_a_process_of_another_run_with_the_same_command_id_is_spared(start: Start, run: str) -> None:
    """Of another agent on this host, or a daemon of an earlier run."""
    command = {COMMAND_MARKER: COMMAND}
    start(SLEEP, {**command, RUN_MARKER: f"{run}-another"})
    start(SLEEP, command)
    mine = start(SLEEP, {**command, RUN_MARKER: run})
    assert pids(orphans(RunTrace(run))) == [mine.pid]
    assert orphans(RunTrace("")) == []


def test_a_later_process_with_the_same_id_is_spared(start: Start, run: str) -> None:
    mark = mark_of(start(SLEEP).pid)
    assert mark
    assert orphans(RunTrace(run, mark._replace(leader_started=mark.leader_started - 1))) == []


def test_a_group_without_its_leader_counts_only_if_a_member_is_marked(start: Start, run: str) -> None:
    forks = "import os, time\nif os.fork(): os._exit(0)\nprint('ready', flush=True)\ntime.sleep(600)"
    for environment, count in (({}, 0), ({RUN_MARKER: run}, 1)):
        leader = start(forks, environment)
        leader.wait()
        assert len(orphans(RunTrace(run, ProcessMark(leader.pid, 1)))) == count
        os.killpg(leader.pid, 9)


async def test_one_that_ignores_term_is_killed(start: Start, run: str) -> None:
    process = start(STUBBORN, {RUN_MARKER: run})
    found = orphans(RunTrace(run))
    assert await end_orphans(RunTrace(run), found, 0.1) == (found, [])
    assert process.wait() == -9


async def test_signals_to_many_orphans_do_not_block_the_loop(run: str, monkeypatch: pytest.MonkeyPatch) -> None:
    no_pid, signalled = 5_000_000, list[bool]()
    many = [Process(no_pid + number, 1, 1, 1) for number in range(200)]
    monkeypatch.setattr("distributor.agent.orphans.send_signal", lambda process, number: signalled.append(on_loop()))
    assert await end_orphans(RunTrace(run), many, 1.0) == (many, [])
    assert signalled == [False] * 2 * len(many)


async def test_those_that_were_started_after_the_scan_end_too(start: Start, run: str) -> None:
    process = start(FORKS, {RUN_MARKER: run})
    found = orphans(RunTrace(run))
    await until(lambda: len(orphans(RunTrace(run))) > len(found))
    ending = await end_orphans(RunTrace(run, mark_of(process.pid)), found, 2.0)
    assert len(ending.found) > len(found)
    assert not ending.survivors
    assert orphans(RunTrace(run)) == []
