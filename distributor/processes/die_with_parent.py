"""Runs a program that dies with the process that started it.

    python -I -S die_with_parent.py <pid of the parent> <signal> <limit of open files> <program> [argument ...]

Run by path, with only the standard library available. Imported only to build that command line.

Linux sends the program the signal when the thread that started it ends, even by SIGKILL. The limit is the soft one; an
empty one keeps that of the parent. Setting either between fork and exec is unsafe in a process that has loaded grpc,
hence this separate program.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys

PR_SET_PDEATHSIG = 1


def tied_to_parent(
    *program: str | os.PathLike[str], open_files: int | None = None, by: signal.Signals = signal.SIGTERM
) -> list[str | os.PathLike[str]]:
    """Return the command line that runs `program` so that it dies `by` a signal with this process and its thread.

    `open_files` is its soft limit of open files, at most the hard limit; None keeps that of this process.
    """
    limit = "" if open_files is None else str(open_files)
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), str(int(by)), limit, *program]


def main() -> None:
    """Replace this process with the program, or exit if the parent has already ended. Never returns."""
    parent, by, open_files, program = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, by)
    if os.getppid() != parent:
        sys.exit("the parent ended before the program started")
    if open_files:
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (int(open_files), hard))
    os.execv(program, sys.argv[4:])


if __name__ == "__main__":
    main()
