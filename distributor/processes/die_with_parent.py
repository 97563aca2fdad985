"""Becomes another program that dies with the process that started it.

    python -I -S die_with_parent.py <pid of the parent> <program> [argument ...]

It is run by its path, with nothing but the standard library in reach; imported only for the beginning of that line.

Linux sends the program SIGTERM when the thread that started it ends, also when that was by SIGKILL. Setting this
between fork and exec of a process that has loaded grpc would be unsafe, hence a program of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def dying_with_us(*program: str | os.PathLike[str]) -> list[str | os.PathLike[str]]:
    """The arguments that start `program` so that it ends with this process, or with the thread that starts it."""
    return [sys.executable, "-I", "-S", __file__, str(os.getpid()), *program]


def main() -> None:
    """Never returns: the program takes our place, or we exit because the parent is already gone."""
    parent, program = int(sys.argv[1]), sys.argv[2]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != parent:
        sys.exit("the parent ended before the program began")
    os.execv(program, sys.argv[2:])


if __name__ == "__main__":
    main()
