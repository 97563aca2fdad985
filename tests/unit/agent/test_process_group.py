"""Which signals a process group sends, and to whom."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from distributor.agent import process_table
from distributor.agent.process_group import ProcessGroup, Program
from distributor.agent.process_tree import RUN_MARKER
from tests.support.fake_proc import FakeProc
from tests.support.on_loop import on_loop
from tests.support.waiting import PATIENCE_SECONDS, until

LEFTOVER = "(trap '' TERM; exec 2>&-; exec sleep 600) & echo $!; exit 0"
"""A program whose child runs on in its group; it prints the child's id."""
HOST_PROCESSES = 2_000
NO_PID = 5_000_000
"""Above all ids of processes."""


@asynccontextmanager
async def shell(script: str) -> AsyncIterator[ProcessGroup]:
    group = await ProcessGroup.start(Program("/bin/sh", ("sh", "-c", script), {RUN_MARKER: "run-1"}))
    try:
        yield group
    finally:
        group.kill()
        group.close()


def runs(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped does not."""
    try:
        return "State:\tZ" not in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return False


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, str]]:
    """The signals sent to groups."""
    sent: list[tuple[int, str]] = []
    killpg = os.killpg

    def recorded(group: int, number: int) -> None:
        if number:
            sent.append((group, signal.Signals(number).name))
        killpg(group, number)

    monkeypatch.setattr(os, "killpg", recorded)
    return sent


@pytest.fixture
def no_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on macOS."""
    monkeypatch.setattr(process_table, "ROOT", str(tmp_path / "none"))


@pytest.mark.parametrize("system", ["linux", "without proc"])
async def test_nothing_is_signalled_once_the_group_has_ended(
    sent: list[tuple[int, str]], system: str, request: pytest.FixtureRequest
) -> None:
    """Its id is free by then: the next group with it is somebody else's."""
    if system != "linux":
        request.getfixturevalue("no_proc")
    async with shell("exit 0") as group:
        await group.exited()
        assert await group.gone(within=PATIENCE_SECONDS)
        await group.stop(0.1)
        group.kill()
    assert sent == []


async def test_a_group_that_has_taken_over_the_id_gets_no_signal(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    async with shell("exit 0") as group:
        await group.exited()
        proc = FakeProc(tmp_path, monkeypatch)
        later = int(time.clock_gettime(time.CLOCK_BOOTTIME) + 60) * os.sysconf("SC_CLK_TCK")
        proc.add(group.pid, started=later)
        proc.add(group.pid + 1, started=later, group=group.pid)
        proc.latest(group.pid + 1)
        probed: list[int] = []
        monkeypatch.setattr(os, "killpg", lambda pgid, number: probed.append(number))
        assert await group.gone(within=PATIENCE_SECONDS)
        await group.stop(0.1)
        group.kill()
        assert set(probed) == {0}
        monkeypatch.undo()


@pytest.mark.parametrize("system", ["linux", "without proc"])
@pytest.mark.parametrize("script", [LEFTOVER, "env -i sleep 600 & echo $!; exit 0"], ids=["marked", "unmarked"])
async def test_a_leftover_of_a_program_that_ended_is_stopped(
    system: str, script: str, request: pytest.FixtureRequest
) -> None:
    """Also without the mark: it was there when its program ended, so its group cannot be another's yet."""
    if system != "linux":
        request.getfixturevalue("no_proc")
    async with shell(script) as group:
        leftover = int((await group.output.next())[0].data)
        await group.exited()
        assert not await group.gone(within=0.05)
        stopping = asyncio.create_task(group.stop(0.1))
        await until(lambda: not runs(leftover))
        stopping.cancel()


async def test_a_daemon_is_stopped_without_pidfds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    daemon = f"{sys.executable} -c 'import os, time; os.setsid(); print(1, flush=True); time.sleep(600)'"
    async with shell(f"{daemon} & exec sleep 600") as group:
        await group.output.next()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await group.stop(PATIENCE_SECONDS)
        assert not group.survivors


async def test_many_processes_on_the_host_do_not_block_the_loop(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """While a leftover is awaited and stopped, with 2,000 other processes that may descend from the program."""
    async with shell(LEFTOVER) as group:
        await group.exited()
        leftover = await asyncio.to_thread(process_table.group_members, group.pid)
        proc = FakeProc(tmp_path, monkeypatch)
        for one in leftover:
            proc.add(one.pid, one.started, group=one.group)
        for pid in range(group.pid + 1_000, group.pid + 1_000 + HOST_PROCESSES):
            proc.add(pid)
        proc.latest(group.pid + 1_000 + HOST_PROCESSES)
        listed_on_loop: list[bool] = []
        listdir = os.listdir

        def listed(path: str) -> list[str]:
            listed_on_loop.append(on_loop())
            return listdir(path)

        monkeypatch.setattr(os, "listdir", listed)
        waiting = asyncio.create_task(group.gone())
        await until(lambda: listed_on_loop)
        # Long enough for some looks more.
        await asyncio.sleep(0.2)
        waiting.cancel()
        assert listed_on_loop == [False], "once: while what was found runs, only that is looked at"
        monkeypatch.undo()


async def test_signals_to_many_processes_do_not_block_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each costs about 40 µs."""
    many = tuple(process_table.Process(NO_PID + number, 1, 1, 1) for number in range(HOST_PROCESSES))
    signalled: list[bool] = []
    monkeypatch.setattr(
        "distributor.agent.process_group.send_signal", lambda process, number: signalled.append(on_loop())
    )
    async with shell("exec sleep 600") as group:
        assert group._tree
        find = group._tree.find
        found = iter([many])
        monkeypatch.setattr(group._tree, "find", lambda: (*find(), *next(found, ())))
        await group.stop(PATIENCE_SECONDS)
    assert signalled == [False] * 2 * HOST_PROCESSES
