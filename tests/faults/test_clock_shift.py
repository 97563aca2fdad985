"""The wall clock of a program that the campaign sets off; its monotonic clock goes on as before."""

from __future__ import annotations

import asyncio
import sys
import time
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Final

from tests.faults.campaign.clock_shift import ClockShift, compiled
from tests.support.waiting import PATIENCE_SECONDS

HOUR: Final = 3_600
PROGRAM: Final = "import time\nwhile input(): print(time.time(), time.monotonic(), flush=True)"


async def test_only_the_wall_clock_jumps_and_readings_are_counted(tmp_path: Path) -> None:
    clock = ClockShift(compiled(tmp_path), "program")
    program = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PROGRAM, env=clock.environment, stdin=PIPE, stdout=PIPE
    )
    assert program.stdin is not None
    assert program.stdout is not None
    async with asyncio.timeout(PATIENCE_SECONDS):
        for off in (0, HOUR, -HOUR, 0):
            clock.set(off)
            before = clock.reads
            program.stdin.write(b"now\n")
            wall, monotonic = map(float, (await program.stdout.readline()).split())
            assert abs(wall - off - time.time()) < PATIENCE_SECONDS
            assert abs(monotonic - time.monotonic()) < PATIENCE_SECONDS
            assert (clock.reads > before) == (off != 0)
        program.stdin.write(b"\n")
        assert await program.wait() == 0
