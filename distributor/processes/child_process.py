"""A child process: started without fork, awaited without blocking the event loop.

uvloop forks to start subprocesses, which is unsafe once grpc is loaded: its threads do not survive a fork. `subprocess`
uses vfork, which runs no fork handlers and copies no state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
from collections.abc import Sequence
from typing import IO

from distributor.processes.die_with_parent import tied_to_parent


class ChildProcess:
    """A child in its own session, so that Ctrl-C in the terminal does not reach it.

    It dies with this process, even on SIGKILL. Start it on a thread that outlives it: Linux treats the end of the
    starting thread as the end of the parent. `output` receives stdout and stderr, and `open_files` is the soft limit of
    open files; None inherits ours. `dies_by` is the signal that it then gets.
    """

    def __init__(
        self,
        program: Sequence[str | os.PathLike[str]],
        *,
        output: IO[bytes] | None = None,
        environment: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
        open_files: int | None = None,
        dies_by: signal.Signals = signal.SIGTERM,
    ) -> None:
        self._process = subprocess.Popen(
            tied_to_parent(*program, open_files=open_files, by=dies_by),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """The exit code, negative for a signal; None while the child runs."""
        return self._process.poll()

    async def wait(self) -> int:
        """Wait for the child to end and return its exit code. Cancelling this leaves the child running."""
        descriptor = os.pidfd_open(self.pid) if self.exit_code is None else -1
        if descriptor >= 0:
            ended = asyncio.Event()
            loop = asyncio.get_running_loop()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return self._process.wait()

    async def stop(self, *grace_seconds: float) -> None:
        """Send SIGTERM once per grace period, then SIGKILL. Returns when the child has ended."""
        for grace in grace_seconds:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.wait()
                    return
        self._process.kill()
        await self.wait()
