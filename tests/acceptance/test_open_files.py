"""Programs that many connect to are started with few open files permitted, as most systems do."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from tests.support.launched_sender import run_sender
from tests.support.launched_server import LAUNCHER, ROOT, address_of, agent_of, launched_program, somewhere

SOFT, HARD = 512, 4_096
LOCAL: Final = "127.0.0.1:0"
ENVIRONMENT: Final = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}


def server(data_dir: Path, valkey_url: str) -> list[str]:
    return ["serve", *somewhere(data_dir)]


def bridge(data_dir: Path, valkey_url: str) -> list[str]:
    return ["bridge", f"--listen={LOCAL}", f"--valkey-url={valkey_url}", "--server=127.0.0.1:1"]


def dev(data_dir: Path, valkey_url: str) -> list[str]:
    return ["dev", *somewhere(data_dir), f"--bridge-listen={LOCAL}"]


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        (server, f"open_files={HARD}"),
        (bridge, f"open_files={HARD}"),
        (dev, "Ctrl-C stops everything"),
    ],
    ids=["serve", "bridge", "dev"],
)
async def test_the_soft_limit_of_open_files_is_raised_to_the_hard_limit(
    arguments: Callable[[Path, str], list[str]], line: str, tmp_path: Path, valkey_url: str
) -> None:
    environment = {**ENVIRONMENT, "DISTRIBUTOR_BRIDGE_TOKEN_KEY": "a key for nothing but tests, of 32 bytes at least"}
    async with launched_program(*limited(*arguments(tmp_path, valkey_url)), environment=environment) as program:
        await program.line(line)
        limits = Path(f"/proc/{program.process.pid}/limits").read_text().splitlines()
        (limit,) = [one.split()[3:5] for one in limits if one.startswith("Max open files")]
        assert limit == [str(HARD), str(HARD)]


async def test_programs_that_the_agent_of_dev_runs_have_the_original_soft_limit(tmp_path: Path) -> None:
    """Also those of an agent that was started again."""
    async with launched_program(*limited(*dev(tmp_path, ""), "--log-level=info"), environment=ENVIRONMENT) as program:
        for epoch in (1, 2):
            await program.line(f"epoch={epoch}")
            token = f"--token-file={tmp_path / 'dev-credentials' / 'user.token'}"
            exec_ = (token, "send", "--agent=dev-agent", "--follow", "--", "sh", "-c", "ulimit -Sn; ulimit -Hn")
            shown = await run_sender(address_of(program), *exec_)
            assert (shown.code, shown.stdout) == (0, f"{SOFT}\n{HARD}\n".encode())
            os.kill(agent_of(program), signal.SIGKILL)


def limited(*arguments: str) -> list[str]:
    """`distributor ...`, started with few open files permitted."""
    return ["prlimit", f"--nofile={SOFT}:{HARD}", sys.executable, str(LAUNCHER), *arguments]
