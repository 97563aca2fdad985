"""A child process: started without fork, awaited without blocking the loop.

uvloop's own subprocesses fork, which is unsafe once grpc is loaded: its threads do not survive a fork. `subprocess`
uses vfork, which runs no fork handlers and leaves no half-copied state.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import subprocess
from collections.abc import Sequence
from typing import IO

from distributor.processes.die_with_parent import dying_with_us


class ChildProcess:
    """One child in a session of its own, out of reach of the terminal's Ctrl-C.

    It dies with this process, even on SIGKILL. Start it on a thread that outlives it: Linux treats the end of the
    starting thread as the end of the parent. `output` receives its stdout and stderr; None means our own.
    """

    def __init__(
        self,
        program: Sequence[str | os.PathLike[str]],
        *,
        output: IO[bytes] | None = None,
        environment: dict[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> None:
        self._process = subprocess.Popen(
            dying_with_us(*program),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            pass_fds=pass_fds,
            start_new_session=True,
        )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """Its exit code, below 0 for a signal; None while it runs."""
        return self._process.poll()

    async def wait(self) -> int:
        """Wait for its end; returns the exit code. Cancelling this leaves the child running."""
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
        """Send SIGTERM, again after each grace but the last, then SIGKILL. Returns when the child has ended."""
        for grace in grace_seconds:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.wait()
                    return
        self._process.kill()
        await self.wait()
