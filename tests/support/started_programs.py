"""Python programs in process groups of their own, for tests of what the agent finds and ends."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

SLEEP = "import time; print('ready', flush=True); time.sleep(600)"
STUBBORN = "import signal, time; signal.signal(15, signal.SIG_IGN); print('ready', flush=True); time.sleep(600)"

Start = Callable[..., subprocess.Popen[bytes]]


@contextmanager
def started_programs() -> Iterator[Start]:
    """Starts programs and waits until each prints "ready"; kills them at the end."""
    started: list[subprocess.Popen[bytes]] = []

    def start(text: str, environment: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", text], env=environment or {}, stdout=subprocess.PIPE, start_new_session=True
        )
        started.append(process)
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()
