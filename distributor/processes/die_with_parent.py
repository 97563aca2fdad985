"""Runs a program that dies with the process that started it.

    python -I -S die_with_parent.py <pid of the parent> <program> [argument ...]

Run by path, with only the standard library available; imported only to build that command line.

Linux sends the program SIGTERM when the thread that started it ends, even by SIGKILL. Requesting this between fork and
exec of a process that has loaded grpc would be unsafe, hence a program of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def dying_with_us(*program: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """The command line that ties `program` to the life of this process and of the thread that starts it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *program]


def main() -> None:
    """Replace this process by the program, or exit if the parent has already ended. Never returns."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent ended before the program began")
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
