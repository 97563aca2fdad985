"""Signals exactly one process, and waits for the end of processes that are no children of the agent."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, ParamSpec, TypeVar

from distributor.agent.process_table import Process, alive
from distributor.tasks import off_loop

POLL_FIRST_SECONDS: Final = 0.005
POLL_MOST_SECONDS: Final = 0.1
KILLED_SECONDS: Final = 5.0
"""How long killed processes may take to disappear, and their last output to be read, before they count as survivors."""

_STAT_BYTES: Final = 300
"""What is read of one process to see whether it runs."""

P = ParamSpec("P")
T = TypeVar("T")


def send_signal(process: Process, number: signal.Signals) -> None:
    """Send a signal to exactly this process; do nothing if it has ended or may not be signalled.

    Its start time tells it from a later process with the same id. A pidfd also holds the id in between. Without
    pidfds (not Linux, before 5.3, a seccomp profile that does not know them, no file descriptor left), the id could be
    reused only if the system gave out all others within the microseconds between the check and the signal.
    """
    handle = _open(process.pid)
    try:
        if any(alive([process])):
            _send(process.pid, handle, number)
    finally:
        if handle is not None:
            os.close(handle)


async def off_loop_if_many(
    processes: Sequence[Process], work: Callable[P, T], *arguments: P.args, **named: P.kwargs
) -> T:
    """Return the value of `work`, which reads a file of each of `processes`; in a thread if they are many."""
    return await off_loop(len(processes) * _STAT_BYTES, work, *arguments, **named)


async def ended(processes: Sequence[Process]) -> None:
    """Wait until none of `processes` runs. Polls, because the system notifies only parents."""
    pause = POLL_FIRST_SECONDS
    while processes := await off_loop_if_many(processes, _running, processes):
        await asyncio.sleep(pause)
        pause = min(pause * 2, POLL_MOST_SECONDS)


def _running(processes: Sequence[Process]) -> list[Process]:
    return list(alive(processes))


def _open(pid: int) -> int | None:
    """A pidfd, if the system has them."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _send(pid: int, handle: int | None, number: signal.Signals) -> None:
    if handle is not None:
        try:
            signal.pidfd_send_signal(handle, number)
            return
        except ProcessLookupError:
            return
        except OSError:
            # Not permitted, of which `kill` knows as well, or not known to a seccomp profile.
            pass
    # It may have ended, or belong to another user now.
    with suppress(OSError):
        os.kill(pid, number)
