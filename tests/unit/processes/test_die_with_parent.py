from __future__ import annotations

import asyncio
import os
import resource
import sys
from pathlib import Path

import pytest

from distributor.processes import die_with_parent
from distributor.processes.die_with_parent import tied_to_parent


async def test_the_program_takes_the_place_of_the_one_that_was_started() -> None:
    child = await asyncio.create_subprocess_exec(
        *tied_to_parent(sys.executable, "-c", "import os; print(os.getpid(), os.getppid())"),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await child.communicate()
    assert [int(pid) for pid in printed.split()] == [child.pid, os.getpid()]


@pytest.mark.parametrize("open_files", [64, None])
async def test_the_program_has_the_soft_limit_of_open_files_asked_for(open_files: int | None) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    child = await asyncio.create_subprocess_exec(
        *tied_to_parent("/bin/sh", "-c", "ulimit -Sn; ulimit -Hn", open_files=open_files),
        stdout=asyncio.subprocess.PIPE,
    )
    printed, _ = await child.communicate()
    limits = [resource.RLIM_INFINITY if limit == b"unlimited" else int(limit) for limit in printed.split()]
    assert limits == [open_files or soft, hard]


async def test_a_parent_that_ended_before_its_program_began_leaves_nothing(tmp_path: Path) -> None:
    launcher = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-S", die_with_parent.__file__, "1", "15", "", "/bin/touch", str(tmp_path / "ran")),
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await launcher.communicate()
    assert launcher.returncode == 1
    assert b"the parent ended before the program started" in errors
    assert not (tmp_path / "ran").exists()
