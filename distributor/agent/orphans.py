"""Finds and ends the processes of commands that outlived their agent.

A process belongs to a run of a command if it is in the program's process group, has the mark of the run in its
environment, or descends from one that does. The command's id does not count: another agent may run a command with the
same id, and an earlier run of the command may have left a daemon.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

from distributor.agent.journal_entries import ProcessMark
from distributor.agent.process_signals import KILLED_SECONDS, ended, off_loop_if_many, send_signal
from distributor.agent.process_table import Process, alive, all_pids, running, start_of, variables_of
from distributor.agent.process_tree import marked
from distributor.tasks import finishes


class RunTrace(NamedTuple):
    """What the journal has of a run that was not finished: the value of RUN_MARKER, and its program if known."""

    run: str
    process: ProcessMark | None = None


def mark_of(pid: int) -> ProcessMark | None:
    """Return the mark of a program that leads its process group; None if it has ended or the system has no /proc."""
    return next((ProcessMark(process.pid, process.started) for process in running([pid])), None)


def find_orphans(traces: Mapping[str, RunTrace]) -> dict[str, list[Process]]:
    """Find the running processes of each command's run. Reads all of /proc, so call it in a thread."""
    processes = {process.pid: process for process in running(all_pids())}
    markers = {marked(trace.run): command_id for command_id, trace in traces.items() if trace.run}
    owners = {pid: markers[own] for pid in processes for own in variables_of(pid) & markers.keys()}
    groups = {
        trace.process.pgid: command_id
        for command_id, trace in traces.items()
        if trace.process and _is_group_of(trace.process, command_id, processes, owners)
    }
    # An agent that a command started must not end itself.
    spared = set(_line(os.getpid(), processes))
    found: defaultdict[str, list[Process]] = defaultdict(list)
    for process in processes.values():
        for pid in _line(process.pid, processes):
            command_id = owners.get(pid, groups.get(processes[pid].group))
            if command_id is not None:
                if process.pid not in spared:
                    found[command_id].append(process)
                break
    return dict(found)


class Ending(NamedTuple):
    """The processes of a command that were to end, and those of them that run on."""

    found: Sequence[Process]
    survivors: Sequence[Process]


async def end_orphans(trace: RunTrace, orphans: Sequence[Process], grace: float) -> Ending:
    """Send TERM, and KILL after `grace` seconds, to the orphans of a run and to those that they start meanwhile."""
    loop = asyncio.get_running_loop()
    found = {(orphan.pid, orphan.started): orphan for orphan in orphans}
    for number, seconds in ((signal.SIGTERM, grace), (signal.SIGKILL, KILLED_SECONDS)):
        deadline = loop.time() + seconds
        while orphans:
            await off_loop_if_many(orphans, _signal_all, orphans, number)
            await finishes(ended(orphans), max(0.0, deadline - loop.time()))
            running_on = await asyncio.to_thread(_running_on, orphans, trace)
            found |= running_on
            orphans = list(running_on.values())
            if loop.time() >= deadline:
                break
    return Ending(list(found.values()), orphans)


def _signal_all(orphans: Sequence[Process], number: signal.Signals) -> None:
    for orphan in orphans:
        send_signal(orphan, number)
        # A stopped process handles TERM only when it is continued.
        send_signal(orphan, signal.SIGCONT)


def _running_on(orphans: Sequence[Process], trace: RunTrace) -> dict[tuple[int, int], Process]:
    """Those that still run, and those that they have started meanwhile."""
    started_meanwhile = find_orphans({"": trace}).get("", ())
    return {(one.pid, one.started): one for one in (*alive(orphans), *started_meanwhile)}


def _is_group_of(
    mark: ProcessMark, command_id: str, processes: Mapping[int, Process], owners: Mapping[int, str]
) -> bool:
    """Whether the process group is still that of the command.

    The id of a group is not reused while the group has members. So it is if its leader is the same process or, if the
    leader has ended, if any member has the mark of the run in its environment.
    """
    leader_started = start_of(mark.pgid)
    if leader_started is not None:
        return leader_started == mark.leader_started
    members = (pid for pid, process in processes.items() if process.group == mark.pgid)
    return any(owners.get(pid) == command_id for pid in members)


def _line(pid: int, processes: Mapping[int, Process]) -> Iterator[int]:
    """A process and all its ancestors."""
    while pid in processes:
        yield pid
        pid = processes[pid].parent
