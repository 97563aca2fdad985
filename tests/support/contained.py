"""Runs programs as a container would: as nobody, without capabilities, on a read-only file system."""

from __future__ import annotations

import os
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.launched_server import ROOT, LaunchedServer, launched_program

NOBODY: Final = 65534
IS_ROOT: Final = os.geteuid() == 0
"""Others need user namespaces, and the program keeps their user id, which may then be that of nobody else's files."""
NO_NEW_CODE: Final = (
    "import ctypes, os, sys\n"
    # PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN: what MemoryDenyWriteExecute= asks for.
    "assert ctypes.CDLL(None).prctl(65, 1, 0, 0, 0) == 0\n"
    "os.execvp(sys.argv[1], sys.argv[1:])"
)


class Mount(NamedTuple):
    """A folder or file that the program sees at `target`."""

    source: Path
    target: str
    writable: bool = False


def python_mounts() -> list[Mount]:
    """What Python and the project need, at the places where they are."""
    return [Mount(path, str(path)) for path in (ROOT, Path(sys.base_prefix))]


def writable_folder(folder: Path) -> Path:
    """A folder that belongs to nobody, and nobody else may read."""
    folder.mkdir(mode=0o700)
    hand_over(folder)
    return folder


def hand_over(path: Path) -> None:
    """Give a file or folder to nobody."""
    if IS_ROOT:
        os.chown(path, NOBODY, NOBODY)


@asynccontextmanager
async def contained(
    stage: Path,
    mounts: Sequence[Mount],
    *command: str | Path,
    environment: dict[str, str],
    new_code: bool = True,
) -> AsyncIterator[LaunchedServer]:
    """Run a program; killed at the end. Without `new_code`, no memory of it may become executable."""
    stage.mkdir()
    namespace = ["unshare", "--mount", "--propagation=private", *([] if IS_ROOT else ["--user", "--map-root-user"])]
    listed = [word for one in mounts for word in ("rw" if one.writable else "ro", str(one.source), one.target)]
    guard = [] if new_code else [sys.executable, "-c", NO_NEW_CODE]
    arguments = [str(stage), str(NOBODY) if IS_ROOT else "", *listed, "--", *guard, *map(str, command)]
    path = f"{ROOT}/.venv/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    whole = {"PATH": path, "PYTHONUNBUFFERED": "1", "PYTHONDONTWRITEBYTECODE": "1", **environment}
    script = ROOT / "tests" / "support" / "contained.sh"
    async with launched_program(*namespace, "--", script, *arguments, environment=whole) as program:
        yield program
