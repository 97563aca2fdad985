"""Signals reach exactly the process that was found, whatever the system offers for that."""

from __future__ import annotations

import errno
import os
import signal
from collections.abc import Callable, Iterator
from typing import NoReturn

import pytest

from distributor.agent.process_signals import ended, send_signal
from distributor.agent.process_table import running
from tests.support.started_programs import SLEEP, Start, started_programs
from tests.support.waiting import PATIENCE_SECONDS

Break = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture
def start() -> Iterator[Start]:
    with started_programs() as start:
        yield start


def failing(number: int) -> Callable[..., NoReturn]:
    def fail(*_: object) -> NoReturn:
        raise OSError(number, os.strerror(number))

    return fail


def without_pidfd_open(monkeypatch: pytest.MonkeyPatch) -> None:
    """Linux before 5.3."""
    monkeypatch.setattr(os, "pidfd_open", failing(errno.ENOSYS))


def without_the_function(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not Linux."""
    monkeypatch.delattr(os, "pidfd_open")


def without_descriptors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pidfd_open", failing(errno.EMFILE))


def without_pidfd_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    """A seccomp profile."""
    monkeypatch.setattr(signal, "pidfd_send_signal", failing(errno.EPERM))


KERNELS = [without_pidfd_open, without_the_function, without_descriptors, without_pidfd_signals]


@pytest.mark.parametrize("broken", [lambda monkeypatch: None, *KERNELS])
async def test_a_signal_arrives_with_or_without_pidfds(
    start: Start, monkeypatch: pytest.MonkeyPatch, broken: Break
) -> None:
    program = start(SLEEP)
    (process,) = running([program.pid])
    broken(monkeypatch)
    send_signal(process, signal.SIGKILL)
    assert program.wait(PATIENCE_SECONDS) == -signal.SIGKILL


@pytest.mark.parametrize("broken", [lambda monkeypatch: None, *KERNELS])
async def test_a_later_process_with_the_same_id_gets_no_signal(
    start: Start, monkeypatch: pytest.MonkeyPatch, broken: Break
) -> None:
    program = start(SLEEP)
    (process,) = running([program.pid])
    broken(monkeypatch)
    sent: list[tuple[int, int]] = []
    monkeypatch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
    send_signal(process._replace(started=process.started - 1), signal.SIGKILL)
    monkeypatch.undo()
    assert (sent, program.poll()) == ([], None)


async def test_the_end_of_processes_is_noticed(start: Start) -> None:
    programs = [start(SLEEP) for _ in range(2)]
    processes = list(running(program.pid for program in programs))
    for program in programs:
        program.kill()
    # Nobody has reaped them yet: zombies do not run.
    await ended(processes)
    assert [program.poll() for program in programs] == [-signal.SIGKILL] * 2
