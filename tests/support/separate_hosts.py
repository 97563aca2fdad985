"""Hosts on one machine: each with a network, processes, a home and a name of its own."""

from __future__ import annotations

import asyncio
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, NamedTuple

from tests.support.contained import IS_ROOT
from tests.support.waiting import PATIENCE_SECONDS

SCRIPT: Final = Path(__file__).with_suffix(".sh")
PROGRAMS: Final = Path(sys.executable).parent
"""Where the programs of the project are installed."""


class Finished(NamedTuple):
    """How a script ended, and what it and the programs that it has left running have written."""

    code: int
    output: str


class Host(NamedTuple):
    """One of the hosts. `home` is the user's, and where scripts run."""

    home: Path
    pid: int

    async def run(self, script: str, *, user: str = "ada") -> Finished:
        """Run a script in a shell, up to the first command that fails. What it has put into the background goes on."""
        log = self.home.with_name(f"{self.home.name}.log")
        space = [] if IS_ROOT else ["--user", "--preserve-credentials"]
        clean = [f"HOME={self.home}", f"USER={user}", f"LOGNAME={user}", f"PATH={PROGRAMS}:/usr/bin:/bin", "TERM=dumb"]
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                *("nsenter", f"--target={self.pid}", *space, "--net", "--mount", "--pid", f"--wd={self.home}"),
                *("env", "--ignore-environment", *clean, "bash", "-ec", script),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
            try:
                code = await asyncio.wait_for(process.wait(), 2 * PATIENCE_SECONDS)
            except TimeoutError:
                process.kill()
                code = await process.wait()
        return Finished(code, log.read_text(errors="replace"))


@asynccontextmanager
async def separate_hosts(folder: Path, *names: str) -> AsyncIterator[Mapping[str, Host]]:
    """Hosts with these names, which reach only each other. All that runs on them is killed at the end."""
    own_space = [] if IS_ROOT else ["unshare", "--user", "--map-root-user", "--mount"]
    process = await asyncio.create_subprocess_exec(
        *(*own_space, "sh", str(SCRIPT), str(folder), *names), stdin=PIPE, stdout=PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        hosts: dict[str, Host] = {}
        while (line := (await process.stdout.readline()).decode().split()) != ["ready"]:
            assert line, "the hosts could not be made"
            name, pid = line
            (folder / name).mkdir()
            hosts[name] = Host(folder / name, int(pid))
        yield hosts
    finally:
        process.stdin.close()
        await process.wait()
