"""A child process that is started without forking this one, and awaited without blocking the loop.

uvloop's own subprocesses fork, which is not safe in a process that has loaded grpc: its threads do not survive a
fork. `subprocess` uses vfork, which runs no fork handlers and shares no half-copied state.
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
    """One child in a session of its own, so that the terminal's Ctrl-C does not reach it.

    Should we be killed, it ends too. Start it on a thread that lives as long as the child is wanted: Linux counts the
    end of the starting thread as the end of the parent. `output` gets its stdout and stderr; None leaves them to ours.
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
        """How it ended; None while it runs."""
        return self._process.poll()

    async def wait(self) -> int:
        """Its exit code, once it has ended. May be cancelled; the child lives on then."""
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
        """SIGTERM, once more after each grace that passes but the last, and then SIGKILL. Returns once it has ended."""
        for grace in grace_seconds:
            with contextlib.suppress(ProcessLookupError):
                self._process.terminate()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(grace):
                    await self.wait()
                    return
        self._process.kill()
        await self.wait()
