"""Which processes are taken for those of a command, and how they are ended."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator

import pytest

from distributor.agent.journal_entries import ProcessMark
from distributor.agent.orphans import end_orphans, find_orphans, mark_of
from distributor.agent.process_table import Process
from distributor.environment import COMMAND_MARKER
from tests.support.waiting import until

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"
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
Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def command_id() -> str:
    return f"orphans-{uuid.uuid4()}"


@pytest.fixture
def start() -> Iterator[Start]:
    """Starts a Python program in a process group of its own, and waits until it says that it is ready."""
    started: list[subprocess.Popen[bytes]] = []

    def begin(text: str, command_id: str = "") -> subprocess.Popen[bytes]:
        environment = {COMMAND_MARKER: command_id} if command_id else {}
        process = subprocess.Popen(
            [sys.executable, "-c", text], env=environment, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate()


def pids(found: list[Process]) -> list[int]:
    return [process.pid for process in found]


def test_a_process_is_found_by_its_group_or_by_its_environment(start: Start, command_id: str) -> None:
    grouped, marked = start(SLEEP), start(SLEEP, command_id)
    assert sorted(pids(find_orphans({command_id: mark_of(grouped.pid)})[command_id])) == sorted(
        (grouped.pid, marked.pid)
    )
    assert pids(find_orphans({command_id: None})[command_id]) == [marked.pid]


def test_a_later_process_with_the_same_id_is_spared(start: Start, command_id: str) -> None:
    mark = mark_of(start(SLEEP).pid)
    assert mark
    assert find_orphans({command_id: mark._replace(leader_started=mark.leader_started - 1)}) == {}


def test_a_group_without_its_leader_counts_only_if_a_member_is_marked(start: Start, command_id: str) -> None:
    forks = "import os, time\nif os.fork(): os._exit(0)\nprint('ready', flush=True)\ntime.sleep(600)"
    for marker, count in (("", 0), (command_id, 1)):
        leader = start(forks, marker)
        leader.wait()
        assert len(find_orphans({command_id: ProcessMark(leader.pid, 1)}).get(command_id, [])) == count
        os.killpg(leader.pid, 9)


async def test_one_that_ignores_term_is_killed(start: Start, command_id: str) -> None:
    process = start(STUBBORN, command_id)
    found = find_orphans({command_id: None})[command_id]
    assert await end_orphans(command_id, None, found, 0.1) == (found, [])
    assert process.wait() == -9


async def test_those_that_were_started_after_the_scan_end_too(start: Start, command_id: str) -> None:
    process = start(FORKS, command_id)
    found = find_orphans({command_id: None})[command_id]
    await until(lambda: len(find_orphans({command_id: None})[command_id]) > len(found))
    ending = await end_orphans(command_id, mark_of(process.pid), found, 2.0)
    assert len(ending.found) > len(found)
    assert not ending.survivors
    assert find_orphans({command_id: None}) == {}
